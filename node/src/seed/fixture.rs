//! A seed for tests of its routes.
//!
//! Not here: running one as a process; see the crate `tests`.

use std::path::Path;

use super::{Seed, init};
use crate::config::seed::{SeedConfig, SeedFile, SeedFlags};
use crate::store::folders::KEYS;
use crate::transport::authorities::Authorities;

/// A seed without organisations in the data directory `data`.
pub(super) fn seed(data: &Path) -> Seed {
    let file = SeedFile::new("127.0.0.1:1", "127.0.0.1:2");
    let config = SeedConfig::check(data, file, SeedFlags::default()).unwrap();
    let keys = data.join(KEYS);
    crate::files::create_private_dir(&keys).unwrap();
    init::open(&config, Authorities::load_or_create(&keys).unwrap()).unwrap()
}
