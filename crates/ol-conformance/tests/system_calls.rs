//! System calls that a function can't make, and programs that must work without them.

use ol_testkit::with_worker;
use serde_json::{Value, json};

/// Makes system calls by number (x86-64). Each is made by a child process, so that one that kills its caller can be reported.
const CALL: &str = "
import ctypes, errno, os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer(4096)

def value(argument):
    if isinstance(argument, str):
        return ctypes.c_char_p(argument.encode())
    if argument is None:
        return buffer
    return ctypes.c_long(argument)

def f(event):
    result = {}
    for name, arguments in event.items():
        pid = os.fork()
        if pid == 0:
            ctypes.set_errno(0)
            done = libc.syscall(*map(value, arguments))
            os._exit(ctypes.get_errno() if done < 0 else 0)
        status = os.waitpid(pid, 0)[1]
        code = os.waitstatus_to_exitcode(status)
        result[name] = 'killed' if code < 0 else errno.errorcode.get(code, 'ok')
    return result
";

fn outcomes(calls: &Value) -> Value {
    let mut outcomes = Value::Null;
    with_worker(&[], |worker| {
        worker.install(
            "call",
            &[("f.py", CALL), ("ol.yaml", "limits: {mem_mb: 128}\n")],
        );
        outcomes = worker.call("call", calls).ok();
    });
    outcomes
}

#[test]
fn calls_that_reach_out_of_a_sandbox() {
    let newuser = 0x1000_0000;
    let mut calls = serde_json::Map::new();
    for (name, arguments) in [
        ("unshare user", json!([272, newuser])),
        ("unshare mount", json!([272, 0x2_0000])),
        ("setns", json!([308, 0, 0])),
        ("mount", json!([165, "none", "/tmp", "tmpfs", 0, 0])),
        ("umount2", json!([166, "/tmp", 2])),
        ("pivot_root", json!([155, "/tmp", "/tmp"])),
        ("chroot", json!([161, "/tmp"])),
        ("open_tree", json!([428, -100, "/", 1])),
        ("move_mount", json!([429, 0, "", 0, "", 0])),
        ("fsopen", json!([430, "tmpfs", 0])),
        ("mount_setattr", json!([442, -100, "/", 0, null, 32])),
        (
            "mknod device",
            json!([133, "/tmp/device", 0o020_666, 0x103]),
        ),
        (
            "mknodat device",
            json!([259, -100, "/tmp/device", 0o020_666, 0x103]),
        ),
        ("ptrace traceme", json!([101, 0, 0, 0, 0])),
        ("process_vm_readv", json!([310, 2, null, 0, null, 0, 0])),
        ("process_vm_writev", json!([311, 2, null, 0, null, 0, 0])),
        ("pidfd_getfd", json!([438, 0, 0, 0])),
        ("kcmp", json!([312, 2, 2, 0, 0, 0])),
        ("keyctl", json!([250, 0, 0, 0])),
        ("add_key", json!([248, "user", "k", "v", 1, -3])),
        ("request_key", json!([249, "user", "k", null, 0])),
        ("bpf", json!([321, 0, null, 64])),
        ("userfaultfd", json!([323, 1])),
        ("perf_event_open", json!([298, null, 0, -1, -1, 0])),
        ("io_uring_setup", json!([425, 1, null])),
        ("open_by_handle_at", json!([304, -100, null, 0])),
        ("name_to_handle_at", json!([303, -100, "/", null, null, 0])),
        ("init_module", json!([175, null, 0, ""])),
        ("kexec_load", json!([246, 0, 0, null, 0])),
        ("syslog", json!([103, 3, null, 100])),
        ("reboot", json!([169, 0, 0, 0])),
        ("swapon", json!([167, "/tmp/x", 0])),
        ("settimeofday", json!([164, null, null])),
        ("acct", json!([163, "/tmp/acct"])),
        ("quotactl", json!([179, 0, null, 0, null])),
        ("iopl", json!([172, 3])),
        ("fanotify_init", json!([300, 0, 0])),
        ("clone3", json!([435, null, 88])),
        // SIGCHLD (17) in the low byte, so that these are forks in all but the namespace.
        ("clone user", json!([56, newuser | 17, 0, 0, 0, 0])),
        ("clone mount", json!([56, 0x2_0000 | 17, 0, 0, 0, 0])),
        ("clone net", json!([56, 0x4000_0000 | 17, 0, 0, 0, 0])),
        ("socket packet", json!([41, 17, 3, 0])),
        ("socket vsock", json!([41, 40, 1, 0])),
        ("socket alg", json!([41, 38, 5, 0])),
        ("socket bluetooth", json!([41, 31, 3, 0])),
        ("socket netfilter", json!([41, 16, 3, 12])),
        ("socket audit", json!([41, 16, 3, 9])),
        ("socket raw", json!([41, 2, 3, 1])),
        ("personality", json!([135, 0x0004_0000])),
        ("ioctl TIOCSTI", json!([16, 0, 0x5412, ""])),
        ("unheard of", json!([999])),
        // Calls that would tell which of the shared files other sandboxes use.
        ("inotify_init1", json!([294, 0])),
        ("fcntl F_NOTIFY", json!([72, 0, 1026, 1])),
        ("mincore", json!([27, 0, 4096, null])),
        ("cachestat", json!([451, 0, null, null, 0])),
        ("process_madvise", json!([440, 0, null, 1, 21, 0])),
        ("sync", json!([162])),
        // Each way to get huge pages.
        (
            "mmap MAP_HUGETLB",
            json!([9, 0, 2 << 20, 3, 0x4_0022, -1, 0]),
        ),
        (
            "shmget SHM_HUGETLB",
            json!([29, 0, 2 << 20, 0o1_000 | 0o4_000 | 0o600]),
        ),
        ("memfd_create MFD_HUGETLB", json!([319, "m", 4])),
        ("ioctl BTRFS_IOC_SYNC", json!([16, 0, 0x9408, 0])),
    ] {
        calls.insert(name.to_owned(), arguments);
    }
    let calls = Value::Object(calls);
    let got = outcomes(&calls);
    let allowed = ["EPERM", "ENOSYS", "EAFNOSUPPORT"];
    for name in calls.as_object().expect("an object").keys() {
        let outcome = got[name].as_str().expect("text");
        assert!(allowed.contains(&outcome), "{name}: {outcome}");
    }
    // The difference matters to programs: they work around an absent call (ENOSYS), but fail on a forbidden one (EPERM).
    for (name, outcome) in [
        ("clone3", "ENOSYS"),
        ("clone user", "EPERM"),
        ("socket packet", "EPERM"),
        ("unheard of", "ENOSYS"),
        ("fcntl F_NOTIFY", "EPERM"),
        ("mincore", "ENOSYS"),
        ("mmap MAP_HUGETLB", "EPERM"),
    ] {
        assert_eq!(got[name], outcome, "{name}");
    }
}

/// No call tells which files of the base are in the shared page cache, or drops them from there.
///
/// Otherwise a function could see what other tenants import, and slow them down.
#[test]
fn the_memory_of_shared_files_is_not_shown_nor_emptied() {
    let source = "
import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(*arguments):
    ctypes.set_errno(0)
    done = libc.syscall(*[a if not isinstance(a, int) else ctypes.c_long(a) for a in arguments])
    return done if done >= 0 else -ctypes.get_errno()

class Part(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]

def read(fd, flags):
    buffer = ctypes.create_string_buffer(16)
    part = Part(ctypes.addressof(buffer), 16)
    return call(327, fd, ctypes.byref(part), 1, 0, 0, flags)

def by_python(fd):
    try:
        return os.preadv(fd, [bytearray(16)], 0, os.RWF_NOWAIT)
    except OSError as error:
        return -error.errno

def f(event):
    fd = os.open(event, os.O_RDONLY)
    address = call(9, 0, 4096, 1, 2, fd, 0)
    result = {
        'plain': read(fd, 0), 'NOWAIT': read(fd, 8), 'DONTCACHE': read(fd, 0x80), 'unknown': read(fd, 0x40000000),
        'python': by_python(fd), 'mincore': call(27, address, 4096, ctypes.create_string_buffer(1)),
        'DONTNEED': call(221, fd, 0, 0, 4), 'WILLNEED': call(221, fd, 0, 0, 3),
        'PAGEOUT': call(28, address, 4096, 21), 'COLD': call(28, address, 4096, 20), 'MERGEABLE': call(28, address, 4096, 12),
        'RANDOM': call(28, address, 4096, 1), 'syncfs': call(306, fd), 'fsync': call(74, fd), 'fdatasync': call(75, fd),
        'NOTIFY': call(72, os.open('/usr', os.O_RDONLY | os.O_DIRECTORY), 1026, 1),
    }
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return result
";
    with_worker(&[], |worker| {
        worker.install(
            "look",
            &[("f.py", source), ("ol.yaml", "limits: {mem_mb: 128}\n")],
        );
        // A file of the base that probably no process has mapped.
        let file = "/usr/share/zoneinfo/Antarctica/Troll";
        let there = std::path::Path::new(file).is_file();
        let file = if there { file } else { "/usr/bin/env" };
        let got = worker.call("look", &json!(file)).ok();
        // The kernel's negative numbers of EPERM, ENOSYS and EOPNOTSUPP.
        let (forbidden, absent, unsupported) = (-1, -38, -95);
        let expected = json!({
            "plain": 16, "NOWAIT": unsupported, "DONTCACHE": unsupported, "unknown": unsupported, "python": unsupported,
            "mincore": absent, "DONTNEED": 0, "WILLNEED": 0, "PAGEOUT": 0, "COLD": 0, "MERGEABLE": 0,
            "RANDOM": 0, "syncfs": 0, "fsync": 0, "fdatasync": 0, "NOTIFY": forbidden
        });
        assert_eq!(got, expected);
        // The file was read a moment ago; if it is still in the page cache, the advice to drop it wasn't followed.
        assert!(resident(file), "{file} was dropped from the host's memory");
    });
}

/// Is the first page of a file in this host's page cache?
fn resident(path: &str) -> bool {
    let file = std::fs::File::open(path).expect("it is there");
    let mut buffer = [0_u8; 16];
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let nowait = rustix::io::ReadWriteFlags::NOWAIT;
    match rustix::io::preadv2(&file, &mut parts, 0, nowait) {
        Ok(read) => read > 0,
        Err(error) => error == rustix::io::Errno::OPNOTSUPP,
    }
}

/// `sysinfo` stays allowed although it tells the host's memory and load.
///
/// The C library reads the size of memory with it and doesn't check for failure, so programs would work with a random number.
#[test]
fn the_size_of_memory_is_a_number() {
    let source = "import os\n\ndef f(event):\n    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')\n";
    with_worker(&[], |worker| {
        worker.install("size", &[("f.py", source)]);
        let text = std::fs::read_to_string("/proc/meminfo").expect("this host's");
        let total = text.lines().next().expect("MemTotal");
        let total: u64 = total
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a number of KiB");
        assert_eq!(worker.call("size", &json!({})).ok(), json!(total << 10));
    });
}

/// Makes allowed calls with the same [`CALL`]: if it made no call correctly, the tests above would prove nothing.
#[test]
fn calls_that_a_function_has() {
    let calls = json!({
        "getpid": [39], "fork": [56, 17, 0, 0, 0, 0], "socket unix": [41, 1, 1, 0], "socket tcp": [41, 2, 1, 0],
        "socket udp6": [41, 10, 2, 0], "socket route": [41, 16, 3, 0], "memfd_create": [319, "m", 0], "personality": [135, 0xffff_ffff_u32]
    });
    let got = outcomes(&calls);
    for (name, outcome) in got.as_object().expect("an object") {
        assert_eq!(outcome, "ok", "{name}");
    }
}

/// System calls by another architecture's entry have other numbers, for which there is no list: the caller is killed.
#[test]
fn calls_of_another_architecture() {
    let source = "
import ctypes, mmap, os

def f(event):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(event))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    pid = os.fork()
    if pid == 0:
        ctypes.CFUNCTYPE(ctypes.c_long)(address)()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
";
    with_worker(&[], |worker| {
        worker.install(
            "raw",
            &[("f.py", source), ("ol.yaml", "limits: {mem_mb: 128}\n")],
        );
        // mov eax, 39; syscall; ret: getpid as usual.
        assert_eq!(
            worker.call("raw", &json!("b8270000000f05c3")).ok(),
            json!(0)
        );
        // mov eax, 20; int 0x80; ret: getpid of i386. SIGSYS.
        assert_eq!(
            worker.call("raw", &json!("b814000000cd80c3")).ok(),
            json!(-31)
        );
        // mov eax, 0x40000027; syscall; ret: getpid of x32.
        assert_eq!(
            worker.call("raw", &json!("b8270000400f05c3")).ok(),
            json!(-31)
        );
    });
}

/// What real functions use that comes closest to the forbidden calls.
#[test]
fn ordinary_programs_work() {
    let source = r#"
import asyncio, concurrent.futures, hashlib, multiprocessing, os, socket, sqlite3, ssl, subprocess, tempfile, threading, uuid

def square(x):
    return x * x

def threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(square, range(5)))

def processes():
    with multiprocessing.get_context('fork').Pool(2) as pool:
        return pool.map(square, range(5))

def queue():
    queue = multiprocessing.Queue()
    child = multiprocessing.get_context('fork').Process(target=queue.put, args=('from a child',))
    child.start()
    text = queue.get(timeout=20)
    child.join()
    return text

def database():
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(os.path.join(folder, 'db'))
        db.execute('pragma journal_mode=wal')
        db.execute('create table t (x)')
        db.executemany('insert into t values (?)', [(1,), (2,)])
        db.commit()
        return db.execute('select sum(x) from t').fetchone()[0]

async def shell():
    process = await asyncio.create_subprocess_exec('echo', 'async', stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()

def tls():
    context = ssl.create_default_context()
    return [len(ssl.RAND_bytes(16)), context.verify_mode == ssl.CERT_REQUIRED, hashlib.sha256(b'').hexdigest()[:8]]

def f(event):
    return {
        'threads': threads(), 'processes': processes(), 'queue': queue(), 'database': database(),
        'shell': asyncio.run(shell()), 'subprocess': subprocess.check_output(['sh', '-c', 'echo $((6*7))'], text=True),
        'tls': tls(), 'uuid': len(str(uuid.uuid4())), 'pair': [s.close() for s in socket.socketpair()],
    }
"#;
    with_worker(&[], |worker| {
        worker.install(
            "all",
            &[
                ("f.py", source),
                ("ol.yaml", "limits: {mem_mb: 256, procs: 40}\n"),
            ],
        );
        let squares = json!([0, 1, 4, 9, 16]);
        let expected = json!({
            "threads": squares, "processes": squares, "queue": "from a child", "database": 3, "shell": "async\n",
            "subprocess": "42\n", "tls": [16, true, "e3b0c442"], "uuid": 36, "pair": [null, null]
        });
        for _ in 0..2 {
            assert_eq!(worker.call("all", &json!({})).ok(), expected);
        }
    });
}
