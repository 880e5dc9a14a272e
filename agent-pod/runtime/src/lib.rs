//! The brain: model loop with tool calling, streaming.
