//! Tests of unpacking: sound archives, hostile ones by hand, random ones, and plain ones.

mod forge;
mod hostile;
mod plain;
mod random;
mod sound;
