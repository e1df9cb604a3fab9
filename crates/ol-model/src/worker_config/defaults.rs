//! All defaults. They are also the schema: the keys of `config.json` and `-o`, and their types, are taken from the JSON of these
//! values.

use std::path::Path;

use serde_json::{Value, json};

use super::sections::{
    BlanksSection, DockerSection, FeaturesSection, LimitsSection, MaxLimitsSection, NetworkSection,
    PackagesSection, ScalingSection, StorageSection, TraceSection,
};
use super::words::{
    CodeStorage, DefaultNetwork, ImportCache, Port, RootStorage, SandboxKind, ScalingPolicy,
    ScratchStorage, ServerMode,
};
use super::{HostFacts, WorkerConfig};
use crate::function_config::ErrorDetail;

/// The memory that the pool leaves to the rest of the machine.
const RESERVED_MB: u64 = 500;
/// The smallest default pool, as in the original: a smaller machine may have to swap, but the worker starts.
const LEAST_POOL_MB: u64 = 500;

pub(super) fn defaults(dir: &Path, host: HostFacts) -> WorkerConfig {
    let pool = host
        .memory_mb
        .saturating_sub(RESERVED_MB)
        .max(LEAST_POOL_MB);
    let inherit = LimitsSection {
        procs: 0,
        mem_mb: 0,
        cpu_percent: 0,
        swappiness: 0,
        runtime_sec: 0,
        scratch_mb: 0,
    };
    WorkerConfig {
        worker_dir: dir.join("worker"),
        worker_url: "localhost".to_owned(),
        allowed_hosts: Vec::new(),
        worker_port: Port(5000),
        log_output: true,
        sandbox: SandboxKind::Sock,
        server_mode: ServerMode::Lambda,
        registry: dir.join("registry").to_string_lossy().into_owned(),
        registry_cache_ms: 5000,
        pkgs_dir: dir.join("lambda").join("packages"),
        pip_mirror: String::new(),
        mem_pool_mb: u32::try_from(pool).unwrap_or(u32::MAX),
        import_cache_tree: Value::String(String::new()),
        sock_base_path: dir.join("lambda"),
        sandbox_config: json!({}),
        docker: DockerSection {
            runtime: String::new(),
            base_image: "ol-min".to_owned(),
        },
        limits: LimitsSection {
            procs: 10,
            mem_mb: 50,
            cpu_percent: 100,
            swappiness: 0,
            runtime_sec: 30,
            scratch_mb: 64,
        },
        installer_limits: LimitsSection {
            procs: 64,
            mem_mb: 250,
            cpu_percent: 200,
            runtime_sec: 300,
            scratch_mb: 512,
            ..inherit
        },
        max_limits: MaxLimitsSection {
            procs: 512,
            mem_mb: 0,
            cpu_percent: 0,
            runtime_sec: 900,
            scratch_mb: 1024,
        },
        zygote_limits: LimitsSection {
            mem_mb: 512,
            ..inherit
        },
        features: FeaturesSection {
            reuse_cgroups: false,
            import_cache: ImportCache::Tree,
            downsize_paused_mem: true,
            enable_seccomp: true,
        },
        trace: TraceSection {
            cgroups: false,
            memory: false,
            evictor: false,
            package: false,
            latency: false,
        },
        blanks: BlanksSection { max: 8 },
        scaling: ScalingSection {
            policy: ScalingPolicy::Work,
            target_ms: 5,
            keep_idle_sec: 600,
        },
        packages: PackagesSection {
            allow_sdist: false,
            hosts: Vec::new(),
            quota_mb: 10_240,
            packed_mb: 1_024,
        },
        network: NetworkSection {
            default: DefaultNetwork::Auto,
            egress: true,
            host: false,
            allow: Vec::new(),
            resolvers: Vec::new(),
            // A part of the address space that carriers share: no site uses it for its own network, and the Internet doesn't route it.
            range: "100.127.0.0/16".to_owned(),
        },
        storage: StorageSection {
            root: RootStorage::Private,
            scratch: ScratchStorage::Regular,
            code: CodeStorage::Regular,
        },
        kafka: json!({}),
        errors: ErrorDetail::Full,
        strict_config: false,
        max_body_mb: 4096,
        max_header_kb: 64,
        max_header_lines: 100,
        max_connections_per_address: 0,
        max_uploads: 128,
        max_uploads_mb: 0,
        queue_per_function: 1024,
        queue_wait_sec: 30,
        drain_sec: 30,
        pause_after_ms: 10,
        shells_ready: 8,
        log_file_mb: 10,
        log_files: 3,
        host,
    }
}
