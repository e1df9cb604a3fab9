//! The machine's kernel: Debian's, with the few modules the machine takes. Only these are kept of
//! the 400 MB its package unpacks to, and their order is worked out once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::packages::{keep, on_path, unpacked, with_fresh_lists};
use super::{Scratch, names};
use crate::supervise::{self, Ended};

/// The modules the machine needs, beside those these need: its root, its ports, and what sandboxes
/// mount.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio-rng",
];

/// A kernel that is ready to boot.
pub(super) struct Kernel {
    /// What qemu boots.
    pub(super) image: PathBuf,
    /// Where the modules are.
    pub(super) dir: PathBuf,
    /// The file names of the modules, in the order in which they load.
    pub(super) modules: Vec<String>,
}

/// Debian's kernel, and as many of its modules as it takes.
pub(super) fn kernel(state: &Path, deadline: Instant) -> Result<Kernel> {
    // Named after what is in it, so that a longer list is fetched anew.
    let dir = state.join(format!("kernel+{}", MODULES.join("+")));
    if !dir.exists() {
        let package = with_fresh_lists(deadline, || {
            let mut show = Command::new("apt-cache");
            show.args(["show", "--no-all-versions", "linux-image-amd64"])
                .env("LC_ALL", "C");
            let shown = supervise::output(&show, deadline)?;
            let depends = shown
                .lines()
                .find_map(|line| line.strip_prefix("Depends: "));
            let package = depends.and_then(|depends| depends.split([' ', ',']).next());
            package
                .map(str::to_owned)
                .context("linux-image-amd64 names no kernel; this needs Debian's packages")
        })?;
        let unpacked = unpacked(state, &[package], deadline)?;
        let kept = Scratch::new(state, "kernel")?;
        pick(&unpacked.path, &kept.path)?;
        decompress(&kept.path.join("kernel"), deadline)?;
        keep(kept, &dir)?;
    }
    let order =
        fs::read_to_string(dir.join("order")).context("the kept kernel is not whole; delete it")?;
    Ok(Kernel {
        image: dir.join("kernel"),
        modules: order.lines().map(str::to_owned).collect(),
        dir,
    })
}

/// Moves the kernel and the modules it takes out of the unpacked package.
fn pick(package: &Path, kept: &Path) -> Result<()> {
    let boot = package.join("boot");
    let image = names(&boot)?
        .into_iter()
        .find(|name| name.starts_with("vmlinuz-"));
    let image = image.context("the package has no kernel")?;
    fs::rename(boot.join(image), kept.join("kernel"))?;
    let mut all = BTreeMap::new();
    find_modules(&package.join("lib/modules"), &mut all)?;
    let mut order = Vec::new();
    for wanted in MODULES {
        resolve(&module_name(wanted), &all, &mut BTreeSet::new(), &mut order)?;
    }
    let mut list = String::new();
    for name in order {
        fs::rename(&all[&name], kept.join(format!("{name}.ko")))?;
        list.push_str(&format!("{name}.ko\n"));
    }
    fs::write(kept.join("order"), list)?;
    Ok(())
}

/// Replaces a kernel by its uncompressed self, which qemu can start as well: having the machine
/// decompress it costs more time than all the rest of its start. A kernel with other contents than
/// expected is left as it is.
fn decompress(kernel: &Path, deadline: Instant) -> Result<()> {
    let bytes = fs::read(kernel)?;
    let (Some(payload), Some(xz)) = (payload(&bytes), on_path("xz")) else {
        return Ok(());
    };
    let compressed = kernel.with_extension("xz");
    fs::write(&compressed, payload)?;
    let mut xz = Command::new(xz);
    xz.args(["--decompress", "--stdout"]).arg(&compressed);
    let mut plain = Vec::new();
    let ended = supervise::supervise(&xz, deadline, |piece| plain.extend_from_slice(piece))?;
    if matches!(ended, Ended::Exited(status) if status.success()) && plain.starts_with(b"\x7fELF") {
        fs::write(kernel, plain)?;
    }
    fs::remove_file(compressed)?;
    Ok(())
}

/// The compressed part of a kernel, by the header that is part of the x86 boot protocol, if it is
/// compressed by xz.
fn payload(kernel: &[u8]) -> Option<&[u8]> {
    let number =
        |at: usize| Some(u32::from_le_bytes(kernel.get(at..at + 4)?.try_into().ok()?) as usize);
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let set_up = (usize::from(*kernel.get(0x1f1)?) + 1) * 512;
    let start = set_up.checked_add(number(0x248)?)?;
    // Its last four bytes are not xz's: they are the size of what comes out.
    let end = start.checked_add(number(0x24c)?)?.checked_sub(4)?;
    kernel
        .get(start..end)
        .filter(|payload| payload.starts_with(b"\xfd7zXZ\0"))
}

/// Appends a module to the order, after those it depends on. The package has no `modules.dep` (that
/// is made when it is installed); a module's own `depends=` is what it would be made from.
fn resolve(
    name: &str,
    all: &BTreeMap<String, PathBuf>,
    above: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    if !above.insert(name.to_owned()) {
        bail!("the kernel's module {name} depends on itself");
    }
    let path = all
        .get(name)
        .with_context(|| format!("the kernel has no module {name}"))?;
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let depends = bytes
        .split(|byte| *byte == 0)
        .find_map(|text| text.strip_prefix(b"depends="));
    let depends = depends
        .with_context(|| format!("the kernel's module {name} does not say what it depends on"))?;
    for needed in String::from_utf8_lossy(depends)
        .split(',')
        .filter(|needed| !needed.is_empty())
    {
        resolve(&module_name(needed), all, above, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// Every module below `dir`, by name.
fn find_modules(dir: &Path, all: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for name in names(dir)? {
        let path = dir.join(&name);
        if path.is_dir() {
            find_modules(&path, all)?;
        } else if let Some(name) = name.strip_suffix(".ko") {
            all.insert(module_name(name), path);
        }
    }
    Ok(())
}

/// A module's name as the kernel has it: a file may be called `virtio-rng`, the module is
/// `virtio_rng`.
fn module_name(name: &str) -> String {
    name.replace('-', "_")
}
