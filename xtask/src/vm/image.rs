//! The machine's initramfs: busybox, the modules, two scripts and the job. It is written anew for every run (some four megabytes), thus is
//! never stale and needs no `cpio` program.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::{Job, MachineOptions, quoted_bytes};
use crate::cargo::Workspace;

/// The PATH in the machine. Not the caller's: programs in a home directory (above all shims of version managers) are slow here, and would
/// make the result depend on the user. `/usr/bin` comes before `/bin`, because following the link `/bin` is a request to the host each
/// time.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the machine mounts file systems of its own, which hide the host's directories.
const HIDDEN: [&str; 2] = ["/tmp", "/run"];

/// The parts of an initramfs.
pub(super) struct Image<'a> {
    /// A static busybox.
    pub(super) busybox: &'a Path,
    /// The kernel, whose modules are included.
    pub(super) kernel: &'a Kernel,
    /// The workspace, whose directories stay visible.
    pub(super) workspace: &'a Workspace,
    /// The options, with variables for the command.
    pub(super) options: &'a MachineOptions,
    /// What to run.
    pub(super) job: &'a Job,
}

impl Image<'_> {
    /// Writes the initramfs.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut archive = Archive::default();
        for dir in ["bin", "modules", "job"] {
            archive.directory(dir)?;
        }
        archive.file("init", 0o755, include_bytes!("init.sh"))?;
        archive.file("bin/busybox", 0o755, &read(self.busybox)?)?;
        for module in &self.kernel.modules {
            archive.file(
                &format!("modules/{module}"),
                0o644,
                &read(&self.kernel.dir.join(module))?,
            )?;
        }
        archive.file(
            "modules/order",
            0o644,
            lines(&self.kernel.modules).as_bytes(),
        )?;
        archive.file("job/guest.sh", 0o644, include_bytes!("guest.sh"))?;
        archive.file("job/command", 0o644, &self.command()?)?;
        archive.file("job/keep", 0o644, &self.kept())?;
        fs::write(path, archive.finish()?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The job as a shell script, in which words with any characters survive. It starts the command with the host's `env`, because busybox
    /// would run its own `sh`, `ls` and `setpriv` instead of the host's.
    fn command(&self) -> Result<Vec<u8>> {
        let mut variables: Vec<(String, Vec<u8>)> = vec![
            ("PATH".into(), PATH.into()),
            ("HOME".into(), "/root".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("OL_") || name.starts_with("RUST_") {
                variables.push((name.into_owned(), value.as_bytes().to_vec()));
            }
        }
        variables.extend(
            self.job
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.as_bytes().to_vec())),
        );
        for setting in &self.options.env {
            let Some((name, value)) = setting.split_once('=') else {
                bail!("--env wants NAME=VALUE, and got {setting:?}");
            };
            variables.push((name.to_owned(), value.into()));
        }

        let mut script = b"cd ".to_vec();
        script.extend(quoted_bytes(self.job.dir.as_os_str().as_bytes()));
        script.extend_from_slice(b" || exit 125\nexec /usr/bin/env -i");
        let settings = variables
            .into_iter()
            .map(|(name, value)| [name.as_bytes(), b"=", &value].concat());
        for word in settings.chain(self.job.command.iter().map(|word| word.as_bytes().to_vec())) {
            script.push(b' ');
            script.extend(quoted_bytes(&word));
        }
        script.push(b'\n');
        Ok(script)
    }

    /// The directories that must stay visible although a file system of the machine would hide them.
    fn kept(&self) -> Vec<u8> {
        let mut ours: Vec<&PathBuf> = vec![
            &self.workspace.workspace_root,
            &self.workspace.target_directory,
            &self.job.dir,
        ];
        ours.sort();
        ours.dedup();
        let mut list = Vec::new();
        for dir in ours {
            if HIDDEN
                .iter()
                .any(|hidden| dir.starts_with(hidden) && dir != Path::new(hidden))
            {
                list.extend_from_slice(dir.as_os_str().as_bytes());
                list.push(b'\n');
            }
        }
        list
    }
}

/// An archive in cpio's "newc" format, which the kernel unpacks.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(name, 0o100_000 | mode, content)
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    /// Writes a header of thirteen hexadecimal numbers, then the name and the content, each padded to a multiple of four bytes.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is too large for an initramfs"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        let (owner, group, links, time, device) = (0, 0, 1, 0, 0);
        let fields = [
            self.entries,
            mode,
            owner,
            group,
            links,
            time,
            size,
            device,
            device,
            device,
            device,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn lines(items: &[String]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_aligned_and_ended() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"12345").expect("a small file");
        let bytes = archive.finish().expect("a small archive");
        assert_eq!(bytes.len() % 4, 0);
        // 110 bytes of header and "a\0" make 112; five bytes of content make 8.
        assert_eq!(&bytes[112..120], b"12345\0\0\0");
        assert_eq!(&bytes[120 + 110..120 + 120], b"TRAILER!!!");
    }
}
