//! Tests of unpacking: sound archives, hostile ones by hand, random ones, and plain ones.

mod hostile;
mod plain;
mod random;
mod sound;
mod tar_builder;
