//! `floor-create`: the least that making and destroying a sandbox could cost, without anything in it.
//!
//! ```text
//! make a cgroup in each hierarchy · clone3 into new namespaces
//!     child: enter the cgroups · four open_tree(OPEN_TREE_CLONE) + move_mount · exit
//! reap · remove the cgroups · again
//! ```
//!
//! Nothing is prepared in advance, and nothing is limited. One process per client does this in a tight loop; each has one thread, as a fork
//! needs. The hierarchies are those needed for limits and freezing on this machine: cgroup2 if it is mounted, and a v1 one for each of
//! three controllers that cgroup2 doesn't have.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ol_sys::namespaces::SANDBOX;
use ol_sys::process::{ForkOptions, SingleThread, exit_now, fork};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::interrupt;
use super::tied::{self, Helper};

const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
const MOUNTS: [&str; 4] = ["1", "2", "3", "4"];
/// How long a cgroup may stay busy after its last process was reaped.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// What the loops need on the host; removed when dropped.
pub(super) struct Place {
    /// The parent cgroup in each hierarchy, cgroup2 first if there is one.
    groups: Vec<PathBuf>,
    has_v2: bool,
    /// Contains the directory that is mounted and the mount points.
    folder: PathBuf,
}

impl Place {
    pub(super) fn make() -> Result<Self> {
        let name = format!("ol-bench-{}-create", std::process::id());
        let (v2, v1) = hierarchies()?;
        let mut place = Self {
            groups: Vec::new(),
            has_v2: v2.is_some(),
            folder: std::env::temp_dir().join(&name),
        };
        std::fs::create_dir(&place.folder)?;
        for part in MOUNTS.iter().chain(&["tree"]) {
            std::fs::create_dir(place.folder.join(part))?;
        }
        for top in v2.iter().chain(&v1) {
            let group = top.join(&name);
            std::fs::create_dir(&group)
                .with_context(|| format!("failed to make {}", group.display()))?;
            place.groups.push(group);
        }
        Ok(place)
    }

    /// Runs `clients` loops for `duration`; returns how many sandboxes per second they made together.
    pub(super) fn rate(&self, clients: usize, duration: Duration) -> Result<f64> {
        let mut loops = Vec::new();
        for client in 0..clients {
            let mut command = tied::command(std::env::current_exe()?)?;
            command
                .args(["__floor-create", &duration.as_millis().to_string()])
                .arg(client.to_string())
                .arg(self.has_v2.to_string())
                .arg(&self.folder)
                .args(&self.groups)
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            loops.push(Helper::start(command)?);
        }
        let mut rate = 0.0;
        for looping in &mut loops {
            let output = looping.process().stdout.take().context("it is piped")?;
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            interrupt::check()?;
            let one: f64 = line.trim().parse().context("floor-create failed")?;
            rate += one;
        }
        Ok(rate)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for group in &self.groups {
            // A loop that was killed leaves one cgroup, whose only process ends by itself.
            let left = std::fs::read_dir(group).into_iter().flatten().flatten();
            let left = left.filter(|entry| entry.path().is_dir());
            for path in left.map(|entry| entry.path()).chain([group.clone()]) {
                if let Err(error) = remove(&path) {
                    eprintln!("warning: failed to remove {}: {error}", path.display());
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Where cgroup2 is mounted, and the v1 hierarchies of the controllers that it lacks.
fn hierarchies() -> Result<(Option<PathBuf>, Vec<PathBuf>)> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let (mut v2, mut v1) = (None, Vec::new());
    // See proc_pid_mounts(5): device, mount point, type, options.
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, at, kind, options, ..] = fields[..] else {
            continue;
        };
        match kind {
            "cgroup2" if v2.is_none() => v2 = Some(PathBuf::from(at)),
            "cgroup" => v1.push((PathBuf::from(at), options.to_owned())),
            _ => {}
        }
    }
    let in_v2 = v2.as_ref().map_or(Ok(String::new()), |top: &PathBuf| {
        std::fs::read_to_string(top.join("cgroup.controllers"))
    })?;
    let lacks = |name: &&str| !in_v2.split_whitespace().any(|have| have == *name);
    let of = |name: &str| {
        v1.iter()
            .find(|(_, options)| options.split(',').any(|option| option == name))
            .map(|(at, _)| at.clone())
    };
    let mut others: Vec<PathBuf> = CONTROLLERS
        .into_iter()
        .filter(lacks)
        .filter_map(of)
        .collect();
    // Two controllers may share a hierarchy.
    others.dedup();
    ensure!(v2.is_some() || !others.is_empty(), "no cgroups are mounted");
    Ok((v2, others))
}

/// The arguments of `xtask __floor-create`.
#[derive(clap::Args)]
pub(crate) struct Args {
    millis: u64,
    client: usize,
    #[arg(action = clap::ArgAction::Set)]
    has_v2: bool,
    folder: PathBuf,
    groups: Vec<PathBuf>,
}

/// The body of `xtask __floor-create`: runs one loop and prints its rate.
pub(crate) fn run(args: &Args) -> Result<()> {
    tied::die_with_parent()?;
    let proof = SingleThread::prove()?;
    std::env::set_current_dir(&args.folder)?;
    let own: Vec<PathBuf> = args
        .groups
        .iter()
        .map(|group| group.join(args.client.to_string()))
        .collect();
    let (started, limit) = (Instant::now(), Duration::from_millis(args.millis));
    let mut made = 0_u32;
    while started.elapsed() < limit {
        let outcome = one(&proof, &own, args.has_v2);
        let removed = own
            .iter()
            .map(|group| remove(group))
            .collect::<Result<Vec<_>, _>>();
        outcome?;
        removed?;
        made += 1;
    }
    let rate = f64::from(made) / started.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{rate}")?;
    Ok(())
}

fn one(proof: &SingleThread, groups: &[PathBuf], has_v2: bool) -> Result<()> {
    for group in groups {
        std::fs::create_dir(group)?;
    }
    // The child is created in the cgroup2 one, as that needs no migration; it enters the others itself.
    let (v2, v1) = groups.split_at(usize::from(has_v2));
    let birthplace = v2.first().map(File::open).transpose()?;
    let entrances = v1
        .iter()
        // Not `cgroup.procs`: when a thread moves itself, the kernel needn't wait for the forks of the whole machine.
        .map(|group| File::options().write(true).open(group.join("tasks")))
        .collect::<std::io::Result<Vec<File>>>()?;
    let birthplace = birthplace.as_ref().map(|file| file.as_fd());
    let birth = ForkOptions {
        namespaces: SANDBOX,
        cgroup: birthplace,
        ..ForkOptions::default()
    };
    let child = fork(proof, birth, |_| inside(&entrances))?;
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?
        .and_then(|status| status.exit_status());
    if status != Some(0) {
        bail!("a sandbox of floor-create ended with {status:?} (step)");
    }
    Ok(())
}

/// The body of the child. Its exit status says which step failed.
fn inside(entrances: &[File]) -> Infallible {
    for entrance in entrances {
        if rustix::io::write(entrance, b"0").is_err() {
            exit_now(1);
        }
    }
    for target in MOUNTS {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let Ok(tree) = open_tree(CWD, "tree", flags) else {
            exit_now(2)
        };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        if move_mount(&tree, "", CWD, target, flags).is_err() {
            exit_now(3);
        }
        // The kernel closes it with the process.
        std::mem::forget(tree);
    }
    exit_now(0)
}

/// Removes an empty cgroup, which the kernel may call busy for a moment after its last process ended.
fn remove(group: &Path) -> std::io::Result<()> {
    let asked = Instant::now();
    loop {
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == ErrorKind::ResourceBusy && asked.elapsed() < REMOVAL_LIMIT =>
            {
                std::thread::yield_now();
            }
            removed => return removed,
        }
    }
}
