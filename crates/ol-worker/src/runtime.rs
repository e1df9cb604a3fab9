//! The program that serves inside a Python sandbox. Its files are compiled into this binary, thus a worker needs no files beside it.

use ol_warden::rootfs::Runtime;

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[
            $(($name, include_bytes!(concat!("../../../runtime/python/", $name)) as &[u8]),)+
            // Compiled by this crate's build script.
            (FORKER, include_bytes!(concat!(env!("OUT_DIR"), "/_ol_forker.so"))),
        ]
    };
}

/// The native half of a zygote.
const FORKER: &str = "_ol_forker.so";

/// The program's files.
pub(crate) const PYTHON: Runtime = files![
    "asgi.py",
    "asgi_call.py",
    "bell.py",
    "encoding.py",
    "guest.py",
    "lifespan.py",
    "tagging.py",
    "watch.py",
    "webapp.py",
    "wsgi.py",
    "zygote.py",
];

#[cfg(test)]
mod tests {
    #[test]
    fn none_is_forgotten() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtime/python");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .expect("the runtime's folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| name.ends_with(".py"))
            .collect();
        there.sort();
        let ours: Vec<&str> = super::PYTHON
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != super::FORKER)
            .collect();
        assert_eq!(there, ours);
    }
}
