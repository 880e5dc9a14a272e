//! The doubles and the searcher, proven from outside.
