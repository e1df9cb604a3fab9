//! Tests of the registry: the folder, sound bundles, hostile ones by hand, and random ones.

mod forge;
mod hostile;
mod random;
mod sound;
mod store;
