//! Starts a worker: everything that can be refused is refused here, before there is a second process.

use crate::assemble::{self, Parts};
use crate::confine::confine;
use crate::directory::{Directory, Lock, refuse_moved};
use crate::relay::Resolvers;
use crate::say::say;
use anyhow::{Context, Result, bail};
use ol_lambda::PackagesSettings;
use ol_model::worker_config::{ImportCache, Subnet};
use ol_model::{SandboxKind, Warning, WorkerConfig};
use ol_sys::process::{ForkOptions, SingleThread, close_inherited, exit_now, fork};
use ol_warden::cgroup::{self, GroupLimits, Layout};
use ol_warden::network::Plan;
use ol_warden::{Ceiling, Config as WardenConfig, Ending};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

/// Runs a worker in `directory` until it is told to stop. This process becomes the warden, its child the worker. `notify` gets the line
/// `ready URL` once calls are answered.
///
/// # Errors
/// When it can't start; the error is one sentence with the remedy.
pub fn up(
    directory: Directory,
    config: WorkerConfig,
    warnings: Vec<Warning>,
    notify: Option<OwnedFd>,
) -> Result<ExitCode> {
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    if config.sandbox != SandboxKind::Sock {
        bail!(
            "sandbox {} is not built yet: leave it at sock",
            config.sandbox
        );
    }
    // So that the modes below take effect as written.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let lock = directory.lock()?;
    let layout = usable_cgroups()?;
    refuse_moved(&cgroup::processes(&layout, &directory.prefix()))?;
    directory.remove_residue_under(&lock)?;
    prepare(&directory, &config)?;
    raise_descriptor_limit();
    let public = listen(&config)?;
    let address = public.local_addr().context("ask for the port")?;
    let private = listen_privately(&directory.socket())?;
    let base = directory.base(&config)?.base;
    let site_packages = base != ol_warden::rootfs::Base::Host;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("make a socket")?;

    let proof = SingleThread::prove().context("start the worker")?;
    let url = url(config.host_to_listen_on(), address.port());
    let parts = Parts {
        directory: &directory,
        config: &config,
        site_packages,
        url: &url,
        resolvers: Resolvers::of(&config),
        base: base.root().to_owned(),
    };
    // Before there is a second process: in a delegated cgroup, all processes must have left its top.
    for said in layout
        .prepare(&directory.prefix())
        .context("make the cgroups")?
    {
        say(&format!("note: {said}"));
    }
    let wardens_end = ours.as_raw_fd();
    // The closure owns what the child uses, so that this process keeps no copy.
    let worker = fork(&proof, ForkOptions::default(), |child| {
        close_inherited(child, wardens_end);
        // Files that the worker creates are private to root unless it sets another mode.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let status = match confine(&directory, &config) {
            Ok(level) => assemble::run(&parts, level, public, private, theirs, notify),
            Err(error) => {
                say(&format!("error: {error:#}"));
                1
            }
        };
        exit_now(status)
    })
    .context("start the worker")?;

    say(&format!("warden: pid {}, {layout}", std::process::id()));
    let warden = warden_config(&directory, &config, base);
    let ending = ol_warden::serve(&warden, &layout, &ours, &worker);
    end(&directory, &lock, ending)
}

/// Cleans up after all processes are gone, and turns the worker's end into an exit status.
fn end(directory: &Directory, lock: &Lock, ending: io::Result<Ending>) -> Result<ExitCode> {
    let removed = directory.remove_residue_under(lock);
    match ending.context("the warden failed")? {
        Ending::WorkerExited(0) => {
            removed?;
            Ok(ExitCode::SUCCESS)
        }
        // The worker already said why.
        Ending::WorkerExited(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(1))),
        Ending::WorkerKilled(signal) => {
            bail!(
                "the worker was killed by signal {signal}; its sandboxes are gone, start it again with `ol worker up`"
            )
        }
    }
}

/// Raises the limit of open files: a sandbox costs the worker four, a connection one, and the usual soft limit is 1,024.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If the limit can't be raised, the worker runs within it.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn usable_cgroups() -> Result<Layout> {
    let layout = cgroup::probe().context("look at the cgroup hierarchies")?;
    let missing = layout.missing();
    if !missing.is_empty() {
        bail!(
            "no cgroup hierarchy offers {}: mount one, see `ol doctor`",
            missing.join(", ")
        );
    }
    Ok(layout)
}

/// Creates the directories that a worker needs.
fn prepare(directory: &Directory, config: &WorkerConfig) -> Result<()> {
    let registry = config.registry_path()?;
    directory.make_private(&registry)?;
    for shared in [&directory.worker(), &config.pkgs_dir, &registry] {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(shared);
        made.with_context(|| format!("make {}", shared.display()))?;
    }
    Ok(())
}

/// The URL of a worker that listens on this host and port.
fn url(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    }
}

fn listen(config: &WorkerConfig) -> Result<TcpListener> {
    let (host, port) = (config.host_to_listen_on(), config.port());
    TcpListener::bind((host, port)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {port} of {host} is in use: stop what listens there, or choose another with -o worker_port=PORT (0 picks a free one)"
        ),
        _ => anyhow::anyhow!("can't listen on {host}:{port}: {error}; set worker_url to an address of this machine"),
    })
}

/// The socket for the operator, accessible only to its user.
fn listen_privately(path: &Path) -> Result<UnixListener> {
    // The umask sets the mode from the first instant; this process has one thread, thus no other is affected.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.with_context(|| {
        format!(
            "can't make the socket {}: use a worker directory with a shorter path",
            path.display()
        )
    })
}

fn warden_config(
    directory: &Directory,
    config: &WorkerConfig,
    base: ol_warden::rootfs::Base,
) -> WardenConfig {
    let default = config.default_limits();
    WardenConfig {
        prefix: directory.prefix(),
        base,
        template: directory.template(),
        code: directory.code(),
        packages: config.pkgs_dir.clone(),
        runtime: crate::runtime::PYTHON,
        shells_ready: if config.features.import_cache == ImportCache::Off {
            config.shells_ready as usize
        } else {
            // With zygotes, few sandboxes need a shell made ahead: a zygote itself, and those started while there is none.
            config.shells_ready.min(1) as usize
        },
        scratch: default.scratch.bytes(),
        usual: GroupLimits {
            memory: default.mem.bytes(),
            swap: 0,
            pids: default.procs,
            cpu_percent: default.cpu.0,
            oom_ends_all: false,
        },
        ceiling: ceiling(config),
        seccomp: config.features.enable_seccomp,
        egress: config
            .network_range()
            .filter(|_| config.network.egress)
            .map(|range| {
                let net = |net: Subnet| (net.address, net.length);
                Plan {
                    range: net(range),
                    allow: config.network_allow().into_iter().map(net).collect(),
                }
            }),
        host_network: config.network.host,
    }
}

/// The most that the warden grants, whatever the worker asks for: from `max_limits` and the memory pool.
fn ceiling(config: &WorkerConfig) -> Ceiling {
    let (most, default) = (config.max_limits(), config.default_limits());
    let installer = PackagesSettings::limits(config);
    Ceiling {
        memory: most.mem.max(default.mem).max(installer.mem).bytes(),
        zygote_memory: config.zygote_limits().mem.bytes(),
        pids: most.procs.max(default.procs).max(installer.procs),
        cpu_percent: most.cpu.0.max(default.cpu.0).max(installer.cpu.0),
        scratch: most
            .scratch
            .max(default.scratch)
            .max(installer.scratch)
            .bytes(),
        // No useful sandbox has less memory than this.
        sandboxes: (config.mem_pool().0 as usize / 4).max(16),
    }
}
