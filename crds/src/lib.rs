//! The typed kinds of the Redoubt API: schemas, CEL rules, conditions and reasons. No IO.
