//! What runs in the sandbox that installs: a web app of seven small files, which needs nothing but Python and the installer.
//!
//! It is laid out as a function (`f.py` with an `app`), so that a sandbox for it is made as any other is. What it answers is
//! never trusted: it ran where strangers' code may have run.

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
