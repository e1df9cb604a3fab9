//! The program that runs in the sandbox that installs: a web app of seven small files, which needs only Python and uv or pip.
//!
//! It is laid out like a function (`f.py` with an `app`), thus its sandbox is made like any other. Its answers are never trusted, because
//! code of package authors may have run in the same sandbox.

use sha2::{Digest as _, Sha256};

/// The files of its code directory: name and text. The docstring of `f.py` describes its requests and answers.
pub const FILES: [(&str, &str); 7] = [
    ("f.py", include_str!("inside/f.py")),
    ("about.py", include_str!("inside/about.py")),
    ("order.py", include_str!("inside/order.py")),
    ("installer.py", include_str!("inside/installer.py")),
    ("sources.py", include_str!("inside/sources.py")),
    ("bytecode.py", include_str!("inside/bytecode.py")),
    ("files.py", include_str!("inside/files.py")),
];

/// A hash of this program, which tells it from other releases: they may install the same package differently.
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
