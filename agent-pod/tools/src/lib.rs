//! The hands: executes tools under the tools' own uid.
