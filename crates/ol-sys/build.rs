//! Compiles the keeper (pid 1 of every sandbox) to a static program without a libc and hands its bytes to the crate.

use std::{env, path::Path, process::Command};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let keeper = Path::new(&out).join("keeper");
    let source = "keeper/keeper.rs";
    println!("cargo:rerun-if-changed={source}");
    let status = Command::new(env::var("RUSTC").expect("cargo sets RUSTC for build scripts"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=keeper"])
        .args([
            "-Cpanic=abort",
            "-Copt-level=s",
            "-Cdebuginfo=0",
            "-Cstrip=symbols",
        ])
        .args([
            "-Crelocation-model=static",
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
        ])
        .args(["-Clink-arg=-static", "-Clink-arg=-no-pie"])
        .args(["-Clink-arg=-Wl,--build-id=none,-z,noexecstack,-z,norelro,-n"])
        .arg("-o")
        .arg(&keeper)
        .arg(source)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the keeper did not compile");
}
