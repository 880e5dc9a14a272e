//! The pure policy engine: compose, match a request, explain, canonicalise; and the signed PodPolicy.
