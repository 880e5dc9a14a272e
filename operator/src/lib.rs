//! The operator: dereference, validate, build, apply, update status.
