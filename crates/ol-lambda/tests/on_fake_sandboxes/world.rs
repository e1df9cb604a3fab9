//! A lambda layer with functions in it, over a fake pool.

use crate::guest;
use bytes::Bytes;
use ol_lambda::registry::{FolderRegistry, Registry};
use ol_lambda::{
    AnswerBody, Body, Invocation, InvokeError, Lambdas, PackagesSettings, Phases, Settings, Source,
    Uploaded,
};
use ol_model::worker_config::{HostFacts, ImportCache, Networks};
use ol_model::{FunctionName, MiB, WorkerConfig};
use ol_packages::packed::Packed;
use ol_packages::store::{Store, StoreLimits};
use ol_packages::wheels::Wheels;
use ol_sandbox::{Abilities, Pool};
use ol_sandbox_fake::FakePool;
use ol_testkit::bundle::bundle;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// The memory of each function, and how many functions the pool has room for.
pub(crate) const EACH: MiB = MiB(50);
pub(crate) const ROOM: u32 = 4;

/// How long a call may wait for an instance, and how long a function may take to answer.
pub(crate) const QUEUE_WAIT: Duration = Duration::from_secs(3);
pub(crate) const RUNTIME: Duration = Duration::from_secs(5);

/// The number of the next bundle's file.
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct World {
    pub(crate) pool: Arc<FakePool>,
    pub(crate) lambdas: Arc<Lambdas>,
    directory: TempDir,
}

impl World {
    /// A world whose sandboxes can do what `abilities` says; sandboxes are forked if they can be.
    pub(crate) fn new(abilities: Abilities) -> Self {
        Self::configured(abilities, |_| {})
    }

    /// Like [`Self::new`], with a configuration that `change` may edit.
    pub(crate) fn configured(abilities: Abilities, change: impl FnOnce(&mut WorkerConfig)) -> Self {
        Self::with_registry(abilities, change, |folder| {
            Arc::new(FolderRegistry::open(folder).expect("a registry"))
        })
    }

    /// Like [`Self::configured`], with the registry that `open` makes; `open` gets a folder that the registry may use.
    pub(crate) fn with_registry(
        abilities: Abilities,
        change: impl FnOnce(&mut WorkerConfig),
        open: impl FnOnce(&Path) -> Arc<dyn Registry>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let at = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        };
        let host = HostFacts {
            memory_mb: 4096,
            cores: 2,
        };
        let mut config = WorkerConfig::defaults(directory.path(), &host);
        config.mem_pool_mb = EACH.0 * ROOM;
        config.limits.mem_mb = EACH.0;
        config.zygote_limits.mem_mb = EACH.0;
        config.limits.runtime_sec = u32::try_from(RUNTIME.as_secs()).expect("short");
        config.queue_wait_sec = u32::try_from(QUEUE_WAIT.as_secs()).expect("short");
        config.queue_per_function = 50;
        config.blanks.max = 0;
        if !abilities.fork {
            config.features.import_cache = ImportCache::Off;
        }
        change(&mut config);
        let pool = FakePool::new(config.mem_pool(), abilities, guest::run);
        let networks = Networks::new(&config.network, Some("it is a test".to_owned()));
        let packages = PackagesSettings {
            store: Store::open(&at("store"), StoreLimits::default()).expect("a store"),
            wheels: Wheels::open(&at("wheels")).expect("a folder of wheels"),
            packed: Packed::open(&at("packed"), 0).expect("a folder of packed copies"),
            state: at("state"),
            index: Err("this is a test".to_owned()),
            python: "fake".to_owned(),
            limits: PackagesSettings::limits(&config),
            allow_sdist: false,
            quota: u64::MAX,
        };
        let lambdas = Lambdas::start(
            Settings::new(&config, at("code"), at("logs"), false, networks),
            open(&at("registry")),
            packages,
            pool.clone(),
        );
        Self {
            pool,
            lambdas,
            directory,
        }
    }

    /// Installs `name`, with `yaml` as its configuration.
    pub(crate) async fn install(&self, name: &str, yaml: &str) -> Uploaded {
        // Another task may be installing the same name.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{number}.tar.gz"));
        let code = "it does what its event says";
        std::fs::write(&path, bundle(&[("f.py", code), ("ol.yaml", yaml)])).expect("written");
        let uploaded = self.lambdas.upload(&named(name), &path, false).await;
        uploaded.expect("a sound bundle")
    }

    /// Calls `name`; returns the answer as text.
    pub(crate) async fn call(&self, name: &str, event: &str) -> Result<String, InvokeError> {
        call(&self.lambdas, name, event).await
    }

    /// Ends everything, and checks that nothing is left.
    pub(crate) async fn end(self) {
        assert!(self.lambdas.end(Duration::from_secs(60)).await);
        assert_eq!(self.pool.counts().alive, 0);
        assert_eq!(self.pool.free_memory(), MiB(EACH.0 * ROOM));
    }
}

/// Calls `name`; returns the answer as text. A late answer fails the test.
pub(crate) async fn call(
    lambdas: &Lambdas,
    name: &str,
    event: &str,
) -> Result<String, InvokeError> {
    let (name, id) = (&named(name), lambdas.number());
    let invocation = Invocation {
        id,
        source: Source::Other { path: "" },
        headers: &[],
    };
    let begun = Instant::now();
    let body = Body::Whole(Bytes::copy_from_slice(event.as_bytes()));
    let answer = async {
        let target = lambdas.target(name, id).await?;
        let phases = &mut Phases::default();
        target.invoke(&invocation, body, phases).await
    };
    let answer = answer.await;
    let took = begun.elapsed();
    assert!(
        took <= QUEUE_WAIT + RUNTIME + Duration::from_secs(3),
        "{name} {event}: after {took:?}"
    );
    match answer?.body {
        AnswerBody::Whole(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        AnswerBody::Stream(_) => panic!("the guest answers in one piece"),
    }
}

pub(crate) fn named(name: &str) -> FunctionName {
    FunctionName::parse(name).expect("a name")
}

/// The abilities of sandboxes that can only run a program.
pub(crate) fn plain() -> Abilities {
    Abilities {
        fork: false,
        freeze: false,
        ..FakePool::able()
    }
}
