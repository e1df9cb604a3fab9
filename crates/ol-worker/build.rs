//! Compiles the native half of a Python zygote, an extension module that links no C library, and makes its bytes available to the crate.

use std::{env, path::Path, process::Command};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let folder = "../../runtime/python/native";
    println!("cargo:rerun-if-changed={folder}");
    let status = Command::new(env::var("RUSTC").expect("cargo sets RUSTC for build scripts"))
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "--crate-name=_ol_forker",
        ])
        .args([
            "-Cpanic=abort",
            "-Copt-level=s",
            "-Cdebuginfo=0",
            "-Cstrip=symbols",
        ])
        // Python's symbols and memset are resolved in the process that loads the module, whichever C library that process uses.
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib"])
        .args(["-Clink-arg=-Wl,--build-id=none,-z,noexecstack"])
        .arg("-o")
        .arg(Path::new(&out).join("_ol_forker.so"))
        .arg(Path::new(folder).join("forker.rs"))
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the forker did not compile");
}
