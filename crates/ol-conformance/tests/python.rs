//! Python's standard library in a sandbox, where a missing device, a filtered system call or a full `/tmp` would show.

use ol_testkit::with_worker;
use serde_json::{Value, json};

/// A key that is used for nothing else, and a certificate with it for the name `me`.
const PEM: &str = include_str!("me.pem");

/// Installs `source` with these limits, calls it twice, since the second call finds what the first left, and returns the answer.
fn answer(source: &str, limits: &str) -> Value {
    let mut answers = Vec::new();
    with_worker(&[], |worker| {
        let yaml = format!("limits: {{{limits}}}\n");
        let files = [("f.py", source), ("ol.yaml", &yaml), ("me.pem", PEM)];
        worker.install("f", &files);
        for _ in 0..2 {
            answers.push(worker.call("f", &json!({})).ok());
        }
        // No process outlives the call that made it.
        let left = worker.leaves();
        assert_eq!(left.len(), 1, "{left:?}");
    });
    assert_eq!(answers[0], answers[1]);
    answers.remove(0)
}

const ROOMY: &str = "procs: 40, mem_mb: 256";

#[test]
fn multiprocessing_works() {
    let source = r#"
import multiprocessing, os, sys

def square(x):
    return x * x

def double(numbers, doubled):
    while (number := numbers.get()) is not None:
        doubled.put(2 * number)

def count(value, lock):
    for _ in range(100):
        with lock:
            value.value += 1

def f(event):
    told = {}
    with multiprocessing.Pool(3) as pool:
        told["pool"] = pool.map(square, range(10))
        told["async"] = pool.apply_async(square, (12,)).get(10)
    pool.join()

    numbers, doubled = multiprocessing.Queue(), multiprocessing.Queue()
    process = multiprocessing.Process(target=double, args=(numbers, doubled))
    process.start()
    for number in [1, 2, 3, None]:
        numbers.put(number)
    told["queue"] = [doubled.get(timeout=10) for _ in range(3)]
    process.join()
    told["exit"] = process.exitcode

    value, lock = multiprocessing.Value("i", 0), multiprocessing.Lock()
    counters = [multiprocessing.Process(target=count, args=(value, lock)) for _ in range(3)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join()
    told["shared"] = value.value

    here, there = multiprocessing.Pipe()
    child = multiprocessing.Process(target=lambda: sys.exit(there.send("hello") or 3))
    child.start()
    told["pipe"] = here.recv()
    child.join()
    told["code"] = child.exitcode
    return told
"#;
    assert_eq!(
        answer(source, ROOMY),
        json!({
            "pool": [0, 1, 4, 9, 16, 25, 36, 49, 64, 81],
            "async": 144,
            "queue": [2, 4, 6],
            "exit": 0,
            "shared": 300,
            "pipe": "hello",
            "code": 3,
        })
    );
}

#[test]
fn threads_and_executors_work() {
    let source = r#"
import concurrent.futures, queue, threading

def f(event):
    told, results = {}, queue.Queue()
    threads = [threading.Thread(target=results.put, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told["threads"] = sorted(results.get() for _ in threads)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        told["pool"] = list(pool.map(lambda n: n + 1, range(8)))
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        told["processes"] = list(pool.map(abs, range(-4, 0)))
    timer = threading.Timer(0.01, results.put, args=("rang",))
    timer.start()
    told["timer"] = results.get(timeout=10)
    timer.join()
    return told
"#;
    assert_eq!(
        answer(source, ROOMY),
        json!({
            "threads": [0, 1, 2, 3, 4, 5, 6, 7],
            "pool": [1, 2, 3, 4, 5, 6, 7, 8],
            "processes": [4, 3, 2, 1],
            "timer": "rang",
        })
    );
}

#[test]
fn subprocesses_and_temporary_files_work() {
    let source = r#"
import os, pathlib, shutil, subprocess, sys, tempfile

def f(event):
    told = {}
    told["shell"] = subprocess.check_output("echo $((6 * 7)) | tr 4 5", shell=True, text=True)
    told["code"] = subprocess.run(["sh", "-c", "exit 3"]).returncode
    told["python"] = subprocess.check_output([sys.executable, "-c", "print(input()[::-1])"], input="olleh", text=True)
    try:
        subprocess.run(["sleep", "60"], timeout=0.05)
    except subprocess.TimeoutExpired:
        told["timeout"] = True
    with tempfile.TemporaryDirectory() as folder:
        told["under"] = os.path.dirname(folder)
        path = pathlib.Path(folder, "file")
        path.write_bytes(b"x" * (1 << 20))
        shutil.copytree(folder, folder + "/copy", ignore=shutil.ignore_patterns("copy"))
        told["copied"] = pathlib.Path(folder, "copy", "file").stat().st_size
    told["gone"] = not os.path.exists(folder)
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryFile() as other:
        file.write(b"mine")
        file.flush()
        other.write(open(file.name, "rb").read())
        told["size"] = other.tell()
    return told
"#;
    assert_eq!(
        answer(source, ROOMY),
        json!({
            "shell": "52\n",
            "code": 3,
            "python": "hello\n",
            "timeout": true,
            "under": "/tmp",
            "copied": 1 << 20,
            "gone": true,
            "size": 4,
        })
    );
}

#[test]
fn sqlite_works_in_memory_and_in_a_file() {
    let source = r#"
import sqlite3

def f(event):
    told = []
    for name in (":memory:", "/tmp/data.db"):
        with sqlite3.connect(name) as base:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("DROP TABLE IF EXISTS t")
            base.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
            base.executemany("INSERT INTO t (b) VALUES (?)", [(str(n),) for n in range(1000)])
            told.append(base.execute("SELECT count(*), sum(b) FROM t WHERE b LIKE '%7'").fetchone())
    return told
"#;
    let row = json!([100, 50200]);
    assert_eq!(answer(source, "mem_mb: 50"), json!([row, row]));
}

/// A TLS server and client with their own certificate, over a pair of sockets and without any socket.
#[test]
fn tls_works() {
    let source = r#"
import hashlib, secrets, socket, ssl, threading

def contexts():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain("/handler/me.pem")
    client = ssl.create_default_context(cafile="/handler/me.pem")
    return server, client

def over_sockets(server, client):
    ours, theirs = socket.socketpair()
    def serve():
        with server.wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(tls.recv(100)[::-1])
    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="me") as tls:
        tls.sendall(b"hello")
        said = tls.recv(100).decode()
    thread.join()
    return said

def in_memory(server, client):
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up, server_hostname="me"), server.wrap_bio(up, down, server_side=True)]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    ends[0].write(b"memory")
    return [ends[1].read().decode(), ends[0].version()]

def f(event):
    server, client = contexts()
    random = len(set(secrets.token_hex(8) for _ in range(100)))
    return [over_sockets(server, client), in_memory(server, client), random, hashlib.sha256(b"").hexdigest()[:8]]
"#;
    assert_eq!(
        answer(source, ROOMY),
        json!(["olleh", ["memory", "TLSv1.3"], 100, "e3b0c442"])
    );
}

#[test]
fn asyncio_works() {
    let source = r#"
import asyncio

async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()

async def main():
    told = {}
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        told["loopback"] = (await reader.read()).decode()
        writer.close()
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    told["cat"] = (await process.communicate(b"meow"))[0].decode()
    told["thread"] = await asyncio.to_thread(sum, [1, 2, 3])
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.01)
    except asyncio.TimeoutError:
        told["timeout"] = True
    told["gathered"] = await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(5)))
    return told

def f(event):
    return asyncio.run(main())
"#;
    assert_eq!(
        answer(source, ROOMY),
        json!({
            "loopback": "HELLO\n",
            "cat": "meow",
            "thread": 6,
            "timeout": true,
            "gathered": [0, 1, 2, 3, 4],
        })
    );
}
