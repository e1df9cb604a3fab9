//! What runs in the sandbox that installs: a web app of seven small files, which needs nothing but Python and the installer.
//!
//! It is laid out as a function (`f.py` with an `app`), so that a sandbox for it is made as any other is. What it answers is
//! never trusted: it ran where strangers' code may have run.

use sha2::{Digest as _, Sha256};

/// The files of its code directory: name and text. `f.py` says what it takes and answers.
pub const FILES: [(&str, &str); 7] = [
    ("f.py", include_str!("inside/f.py")),
    ("about.py", include_str!("inside/about.py")),
    ("order.py", include_str!("inside/order.py")),
    ("installer.py", include_str!("inside/installer.py")),
    ("sources.py", include_str!("inside/sources.py")),
    ("bytecode.py", include_str!("inside/bytecode.py")),
    ("files.py", include_str!("inside/files.py")),
];

/// Tells this program from those of other releases: what they make of a package may differ.
#[must_use]
pub fn digest() -> String {
    let mut hasher = Sha256::new();
    for (name, text) in FILES {
        hasher.update(name);
        hasher.update(text);
    }
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
