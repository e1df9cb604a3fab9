//! The machine's programs, from Debian's packages. They are not installed but unpacked below the target directory: installing a kernel
//! would run the host's boot set-up, `busybox-static` would remove `busybox`, and qemu would remove a `qemu-utils` of another version.
//! Everything is fetched once, and each step is announced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Scratch, names};
use crate::supervise;

/// The emulator.
pub(super) struct Qemu {
    /// Its program.
    pub(super) program: PathBuf,
    /// The folder it was unpacked to, unless it is the host's own.
    unpacked: Option<PathBuf>,
}

impl Qemu {
    /// A command that starts it, without arguments for the machine.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(dir) = &self.unpacked {
            // Debian 12 has packages with files in /lib and packages with files in /usr/lib.
            let [libraries, older] =
                ["usr/lib", "lib"].map(|lib| dir.join(lib).join("x86_64-linux-gnu"));
            command.env(
                "LD_LIBRARY_PATH",
                format!("{}:{}", libraries.display(), older.display()),
            );
            command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(dir.join(data));
            }
        }
        command
    }
}

/// The host's qemu, or else Debian's with the libraries that the host lacks.
pub(super) fn qemu(state: &Path, deadline: Instant) -> Result<Qemu> {
    const NAME: &str = "qemu-system-x86_64";
    if let Some(program) = on_path(NAME) {
        return Ok(Qemu {
            program,
            unpacked: None,
        });
    }
    let dir = state.join("qemu");
    if !dir.exists() {
        let packages = with_fresh_lists(deadline, || {
            let mut apt = Command::new("apt-get");
            apt.args([
                "install",
                "--simulate",
                "--no-install-recommends",
                "qemu-system-x86",
            ])
            .env("LC_ALL", "C");
            let simulated = supervise::output(&apt, deadline)?;
            let new = simulated
                .lines()
                .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
            Ok(new.map(str::to_owned).collect::<Vec<_>>())
        })?;
        keep(unpacked(state, &packages, deadline)?, &dir)?;
    }
    Ok(Qemu {
        program: dir.join("usr/bin").join(NAME),
        unpacked: Some(dir),
    })
}

/// A busybox that needs no libraries.
pub(super) fn busybox(state: &Path, deadline: Instant) -> Result<PathBuf> {
    let kept = state.join("busybox");
    if !kept.exists() {
        let scratch = unpacked(state, &["busybox-static".into()], deadline)?;
        fs::rename(scratch.path.join("bin/busybox"), &kept)
            .context("busybox-static has no bin/busybox")?;
    }
    Ok(kept)
}

/// Gives a complete directory its final name. If another process was faster, its equal directory is kept.
pub(super) fn keep(scratch: Scratch, dir: &Path) -> Result<()> {
    match fs::rename(&scratch.path, dir) {
        Err(error) if !dir.exists() => {
            Err(error).with_context(|| format!("cannot make {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Fetches packages and unpacks them below the state directory.
pub(super) fn unpacked(state: &Path, packages: &[String], deadline: Instant) -> Result<Scratch> {
    let first = packages.first().context("there is nothing to fetch")?;
    let scratch = Scratch::new(state, first)?;
    let state = state.display();
    say(&format!(
        "unpacking into {state}, without installing it, Debian's {}",
        packages.join(" ")
    ));
    with_fresh_lists(deadline, || {
        let mut apt = Command::new("apt-get");
        // As root, apt would try to fetch as its own user, which can't write here, and would print a warning.
        apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .args(packages)
            .current_dir(&scratch.path);
        supervise::output(&apt, deadline)
    })?;
    for deb in names(&scratch.path)?
        .into_iter()
        .filter(|name| name.ends_with(".deb"))
    {
        let deb = scratch.path.join(deb);
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(&deb).arg(&scratch.path);
        supervise::output(&dpkg, deadline)?;
        fs::remove_file(&deb)?;
    }
    Ok(scratch)
}

/// Runs `attempt`, which needs apt's package lists. If it fails, the lists may be missing or old: they are fetched, and it is tried again.
pub(super) fn with_fresh_lists<T>(deadline: Instant, attempt: impl Fn() -> Result<T>) -> Result<T> {
    if on_path("apt-get").is_none() {
        bail!("there is no apt-get: the machine is made of Debian's packages");
    }
    attempt().or_else(|first| {
        say(&format!(
            "{first:#}; fetching the package lists (apt-get update)"
        ));
        let program = if rustix::process::geteuid().is_root() {
            "env"
        } else {
            "sudo"
        };
        let mut apt = Command::new(program);
        apt.args(["LC_ALL=C", "apt-get", "update", "-qq"]);
        supervise::output(&apt, deadline)?;
        attempt()
    })
}

/// A program on the path.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|program| program.exists())
}

/// Announces a step, separately from the command's output.
fn say(text: &str) {
    eprintln!("xtask: {text}");
}
