//! The virtual machine: qemu's arguments, and how the command's output and exit status come back. Each has a port of its own, apart from
//! the kernel's console: thus nothing that the kernel or the command prints can be mistaken for a status, and a machine that dies early can
//! be told from a command that failed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use super::packages::Qemu;
use super::{MachineOptions, Outcome};
use crate::supervise::{Ended, supervise};

/// The kernel's command line: first how to behave, then options that save the interpreter work.
const KERNEL_OPTIONS: &str = "console=ttyS0 panic=-1 cgroup_no_v1=all quiet \
    mitigations=off init_on_alloc=0 audit=0 tsc=reliable no_timer_check cryptomgr.notests";

/// How many lines of the console are shown when the machine died.
const CONSOLE_LINES: usize = 30;

/// A machine that can be started.
pub(super) struct Machine<'a> {
    /// The emulator.
    pub(super) qemu: &'a Qemu,
    /// The kernel.
    pub(super) kernel: &'a Path,
    /// The initramfs.
    pub(super) initramfs: &'a Path,
    /// Its processors and memory.
    pub(super) options: &'a MachineOptions,
    /// The file for the console's output.
    pub(super) console: PathBuf,
    /// Where that is kept if something goes wrong.
    pub(super) kept_console: PathBuf,
    /// The file for the exit status.
    pub(super) status: PathBuf,
}

impl Machine<'_> {
    /// Boots it and waits until it is off.
    pub(super) fn run(&self, deadline: Instant) -> Result<Outcome> {
        let mut output = Vec::new();
        let mut ours = std::io::stdout().lock();
        let ended = supervise(&self.command(), deadline, |piece| {
            output.extend_from_slice(piece);
            // If the reader of this output has left, the command must still come to its end.
            let _ = ours.write_all(piece).and_then(|()| ours.flush());
        })?;
        let status = fs::read_to_string(&self.status).unwrap_or_default();
        match (ended, status.trim().parse::<u8>()) {
            (Ended::Exited(_), Ok(code)) => Ok(Outcome { code, output }),
            (Ended::Exited(how), Err(_)) => {
                bail!(
                    "the machine ended without the command's status (qemu: {how}){}",
                    self.last_words()
                )
            }
            (Ended::TimedOut, _) => {
                bail!(
                    "the machine was still running at the time limit, and was ended{}",
                    self.last_words()
                )
            }
        }
    }

    fn command(&self) -> Command {
        // No default devices; the host's root is the machine's root.
        let mut qemu = self.qemu.command();
        qemu.args([
            "-accel",
            "tcg,thread=multi,tb-size=256",
            "-machine",
            "q35",
            "-cpu",
            "max",
        ]);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        qemu.args(["-smp", &self.options.cpus.to_string()]);
        qemu.args(["-m", &self.options.memory.to_string()]);
        qemu.arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs);
        qemu.args(["-append", KERNEL_OPTIONS]);
        qemu.args([
            "-fsdev",
            "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        ]);
        qemu.args([
            "-device",
            "virtio-9p-pci,fsdev=root,mount_tag=root",
            "-device",
            "virtio-rng-pci",
        ]);
        qemu.args(["-serial", &format!("file:{}", self.console.display())]);
        qemu.args(["-device", "virtio-serial-pci"]);
        // Not qemu's "stdio", which closes the port when there is no more input.
        let status = format!("file,id=status,path={}", self.status.display());
        for (name, chardev) in [
            ("output", "file,id=output,path=/dev/stdout"),
            ("status", &status),
        ] {
            qemu.args(["-chardev", chardev]);
            qemu.args([
                "-device",
                &format!("virtserialport,chardev={name},name={name}"),
            ]);
        }
        qemu
    }

    /// The end of the console, for an error.
    fn last_words(&self) -> String {
        let console = fs::read(&self.console).unwrap_or_default();
        let _ = fs::write(&self.kept_console, &console);
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        if lines.is_empty() {
            return "; its console is empty".to_owned();
        }
        let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
        format!(
            "; its console, kept in {}, ended with:\n{}",
            self.kept_console.display(),
            last.join("\n")
        )
    }
}
