//! The only place where the parts meet: pool, lambdas, server; and their end in the opposite order.

use crate::directory::Directory;
use crate::memory;
use crate::relay::{Relay, Resolvers};
use crate::say::say;
use crate::signals::{Signals, Told};
use anyhow::{Context, Result, bail};
use ol_event::{Listeners, RequestLimits, Server, UploadLimits};
use ol_lambda::registry::FolderRegistry;
use ol_lambda::{Direct, Lambdas, PackagesSettings, Settings};
use ol_model::worker_config::{DefaultNetwork, Networks};
use ol_model::{ServerMode, WorkerConfig};
use ol_packages::index::{Host, Index, Wanted};
use ol_packages::packed::Packed;
use ol_packages::store::{Store, StoreLimits};
use ol_packages::wheels::Wheels;
use ol_sandbox::budget::Budget;
use ol_sandbox::sock::SockPool;
use ol_sandbox::{Egress, Pool};
use ol_sys::confine::Level;
use ol_warden::rootfs::PYTHONS;
use rustix::process::{Resource, getrlimit};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long the end of all sandboxes is waited for.
const LAST_MOMENTS: Duration = Duration::from_secs(10);

/// How long callers are answered when the warden is gone: what waits for a sandbox learns at once that there will be none.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What a worker is made of.
pub(crate) struct Parts<'a> {
    pub directory: &'a Directory,
    pub config: &'a WorkerConfig,
    /// The base brings packages that functions are to see.
    pub site_packages: bool,
    /// Where it will answer.
    pub url: &'a str,
    /// Whom functions' questions of names go to.
    pub resolvers: Resolvers,
    /// Where the base lies on the host.
    pub base: PathBuf,
}

/// Runs the worker in this process until it is told to stop; returns its exit status.
pub(crate) fn run(
    parts: &Parts<'_>,
    level: Level,
    public: TcpListener,
    private: UnixListener,
    warden: OwnedFd,
    notify: Option<OwnedFd>,
) -> i32 {
    // For those who list processes; without it, it is called like the warden.
    let _ = rustix::thread::set_name(c"ol-worker");
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("OL_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_target(false)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    match level {
        Level::Full => {}
        Level::Partial => tracing::info!(
            "this kernel is older than some of the Landlock rules; it enforces the others"
        ),
        Level::None => tracing::warn!(
            "this kernel has no Landlock: only the lack of capabilities confines the worker"
        ),
    }
    let result = runtime().context("start the runtime").and_then(|runtime| {
        let served = runtime.block_on(serve(parts, public, private, warden, notify));
        // What still reads from a slow index is of no use any more; what writes can be cut at any point.
        runtime.shutdown_timeout(LAST_WORK);
        served
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("error: {error:#}"));
            1
        }
    }
}

/// How long threads that block may go on after everything else has ended.
const LAST_WORK: Duration = Duration::from_secs(5);

/// One thread of ours for each four cores: a call's time is the function's, and on few cores a hop between threads costs
/// more than it gains (measured on two, docs/contributing/benchmarks.md; the ratio for many is a guess).
fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match cores / 4 {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    }
}

/// What the server is in front of.
enum Served {
    Functions(Arc<Lambdas>),
    Sandboxes(Arc<Direct>),
}

impl Served {
    fn stop_accepting(&self) {
        match self {
            Self::Functions(lambdas) => lambdas.stop_accepting(),
            Self::Sandboxes(direct) => direct.stop_accepting(),
        }
    }

    /// Waits for calls that didn't come by HTTP, whose connections are waited for.
    async fn finished(&self) {
        if let Self::Functions(lambdas) = self {
            lambdas.finished().await;
        }
    }

    async fn end(&self, patience: Duration) -> bool {
        match self {
            Self::Functions(lambdas) => lambdas.end(patience).await,
            Self::Sandboxes(direct) => direct.end(patience).await,
        }
    }
}

async fn serve(
    parts: &Parts<'_>,
    public: TcpListener,
    private: UnixListener,
    warden: OwnedFd,
    notify: Option<OwnedFd>,
) -> Result<()> {
    let Parts {
        directory,
        config,
        site_packages,
        url,
        ref resolvers,
        ref base,
    } = *parts;
    let mut signals = Signals::handle()?;
    let budget = Budget::new(config.mem_pool());
    let pool = SockPool::start(warden, budget).context("reach the warden")?;
    let pool: Arc<dyn Pool> = Arc::new(pool);
    if !pool.ready().await {
        bail!("the warden could not start; its own message says why");
    }
    let networks = networks(config, pool.egress(), resolvers)?;
    let settings = Settings::new(
        config,
        directory.code(),
        directory.logs(),
        site_packages,
        networks,
    );
    let limits = limits(config);
    let (what, server) = match config.server_mode {
        ServerMode::Lambda => {
            let registry = Arc::new(FolderRegistry::open(&config.registry_path()?)?);
            let packages = packages(config, directory, base)?;
            let lambdas = Lambdas::start(settings, registry, packages, pool.clone());
            let server = Server::new(
                Arc::clone(&lambdas),
                limits,
                config.host_names(),
                directory.uploads(),
            );
            (Served::Functions(lambdas), server)
        }
        ServerMode::Sock => {
            let direct = Direct::new(settings, config.pkgs_dir.clone(), pool.clone());
            let server = Server::of_sandboxes(Arc::clone(&direct), limits, config.host_names());
            (Served::Sandboxes(direct), server)
        }
    };
    let listeners = Listeners {
        public: tokio_listener(public)?,
        private: tokio_private(private)?,
    };
    let (stop, stopped) = watch::channel(false);
    let serving = Arc::clone(&server).serve(listeners, stopped, config.drain());
    let mut serving = tokio::spawn(serving);
    tokio::spawn(memory::tend());
    announce(directory, url, notify)?;
    let told = tokio::select! {
        told = signals.next() => told,
        () = pool.gone() => {
            // The kernel ends sandboxes with the warden; what is left are our own files, and callers who are owed an answer.
            retract(directory);
            what.stop_accepting();
            stop.send_replace(true);
            let _ = tokio::time::timeout(LAST_ANSWERS, serving).await;
            bail!(
                "the warden is gone, so no sandbox can be made; start the worker again with `ol worker up`"
            );
        }
    };
    what.stop_accepting();
    stop.send_replace(true);
    let last = Instant::now() + config.drain();
    let hurry = async {
        if told == Told::Drain {
            tracing::info!(
                "stopping: calls in flight may take {:?}; being told to stop once more ends them",
                config.drain()
            );
            signals.hurry().await;
        }
    };
    tokio::select! {
        biased;
        cut_off = async {
            let cut_off = (&mut serving).await;
            let _ = timeout_at(last, what.finished()).await;
            cut_off
        } => match cut_off.context("the server failed")? {
            0 => {}
            cut_off => tracing::warn!("{cut_off} connections were cut off"),
        },
        () = hurry => {
            tracing::warn!("stopping at once, as told: calls in flight are cut off");
            serving.abort();
            if !serving.is_finished() {
                // It ends with its connections.
                let _ = serving.await;
            }
        }
    }
    if !what.end(LAST_MOMENTS).await {
        tracing::warn!(
            "sandboxes are still ending after {LAST_MOMENTS:?}; the warden goes on with it"
        );
    }
    let path = directory.stats_file();
    if let Err(error) = replace(&path, &server.stats_text(), 0o600) {
        tracing::warn!("the statistics are lost: write {}: {error}", path.display());
    }
    Ok(())
}

/// The most connections by the port.
const CONNECTIONS: u64 = 8192;

/// What requests may be, and how many of them. Connections take half of the descriptors at most: the others are for sandboxes, files
/// and the worker's own socket, however many clients come.
fn limits(config: &WorkerConfig) -> RequestLimits {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = (descriptors / 2).clamp(1, CONNECTIONS);
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    RequestLimits {
        body: config.max_body(),
        header_bytes: config.max_header_bytes(),
        header_lines: config.max_header_lines as usize,
        connections,
        connections_each: config.connections_each(connections),
        uploads: UploadLimits {
            each: config.max_body(),
            together: config.max_uploads(),
            count: config.max_uploads as usize,
        },
    }
}

/// Opens the store of packages, and looks where they come from on this host.
fn packages(config: &WorkerConfig, directory: &Directory, base: &Path) -> Result<PackagesSettings> {
    let limits = StoreLimits::default();
    let store = Store::open(&config.pkgs_dir, limits).context("open the packages")?;
    let python = python_of(base);
    let gone = store.made_for(&python)?;
    if !gone.is_empty() {
        let count = gone.len();
        tracing::warn!(
            "packages were installed for another Python than the base's ({python}): removed {count}; they are installed anew when functions need them"
        );
    }
    let at = config.pkgs_dir.join(".wheels");
    let wheels = Wheels::open(&at);
    let wheels = wheels.with_context(|| format!("make room for wheels in {}", at.display()))?;
    let at = directory.packages_state().join("packed");
    let packed = Packed::open(&at, u64::from(config.packages.packed_mb) << 20);
    let packed = packed
        .with_context(|| format!("open the packed copies of packages in {}", at.display()))?;
    let wanted = Wanted {
        mirror: &config.pip_mirror,
        package_hosts: &config.packages.hosts,
    };
    let index = Index::of(&Host::real(), &wanted).map_err(|error| {
        tracing::warn!("no package can be installed: {error}");
        error.for_callers()
    });
    Ok(PackagesSettings {
        store,
        wheels,
        packed,
        state: directory.packages_state(),
        index,
        python,
        limits: PackagesSettings::limits(config),
        allow_sdist: config.packages.allow_sdist,
        quota: u64::from(config.packages.quota_mb) << 20,
    })
}

/// What tells the Python of one base from that of another: where its `python3` leads, for that is named after its version, and the C
/// library if it is the rarer one.
fn python_of(base: &Path) -> String {
    let named = |python: &&str| {
        let path = base.join(python.trim_start_matches('/'));
        let leads = fs::read_link(&path).or_else(|_| fs::metadata(&path).map(|_| path.clone()));
        leads.ok().map(|leads| leads.display().to_string())
    };
    let python = PYTHONS.iter().find_map(named).unwrap_or_default();
    let musl = fs::read_dir(base.join("lib")).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("ld-musl-"))
    });
    if musl {
        format!("{python} musl")
    } else {
        python
    }
}

/// Starts what functions' networks need of the worker, and says what the operator should know of them.
fn networks(config: &WorkerConfig, egress: Egress, resolvers: &Resolvers) -> Result<Networks> {
    let unable = match egress {
        Egress::Off => None,
        Egress::On {
            forwarding_is_new,
            udp,
            tcp,
        } => {
            if forwarding_is_new {
                tracing::info!(
                    "this host forwards packets from now on (net.ipv4.ip_forward was 0): those of functions with egress; network.egress=false does without"
                );
            }
            Relay::start(udp, tcp, resolvers.clone()).context("answer questions of names")?;
            None
        }
        Egress::Unable(why) => {
            match config.network.default {
                DefaultNetwork::Auto => {
                    tracing::warn!("functions have no network but their own loopback: {why}");
                }
                _ => tracing::warn!("functions can't have network egress: {why}"),
            }
            Some(why)
        }
    };
    Ok(Networks::new(&config.network, unable))
}

fn tokio_listener(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

fn tokio_private(listener: UnixListener) -> Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}

/// Says that calls are answered: to scripts by files, to whoever started us by `notify`, to people on standard output.
fn announce(directory: &Directory, url: &str, notify: Option<OwnedFd>) -> Result<()> {
    // Everybody may ask whether a worker runs, and where.
    let pid = std::process::id();
    for (path, text) in [
        (directory.url_file(), url.to_owned()),
        (directory.pid_file(), pid.to_string()),
    ] {
        replace(&path, &format!("{text}\n"), 0o644)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let text = format!("worker: pid {pid}, ready at {url}\n");
    // Nobody may be reading any more; the worker serves all the same.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
    if let Some(notify) = notify {
        let _ = rustix::io::write(&notify, format!("ready {url}\n").as_bytes());
    }
    Ok(())
}

/// Puts a file of this mode in the place of the one at `path`, which may be one that we can't write: without capabilities,
/// root is held to modes.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

/// Removes the files that say a worker runs here.
fn retract(directory: &Directory) {
    for path in [
        directory.pid_file(),
        directory.url_file(),
        directory.socket(),
    ] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}
