//! The functions that run the probe: one of each kind, with the same files beside it.

/// The module that tells everything a program can see of itself; its own comments describe it.
const PROBE: &str = include_str!("probe.py");

const F: &str = "
import probe

at_import = probe.look()

def f(event):
    return {'import': at_import, 'call': probe.look()}
";

const WSGI: &str = "
import json, probe

at_import = probe.look()

def app(environ, start_response):
    start_response('200 OK', [('content-type', 'application/json')])
    return [json.dumps({'import': at_import, 'call': probe.look()}).encode()]
";

const ASGI: &str = "
import json, probe

at_import = probe.look()

async def app(scope, receive, send):
    if scope['type'] != 'http':
        return
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'application/json')]})
    await send({'type': 'http.response.body', 'body': json.dumps({'import': at_import, 'call': probe.look()}).encode()})
";

/// An `ol.yaml` with some of the settings that a function may have.
const SETTINGS: &str = "
environment: {TZ: Europe/Prague, PYTHONPATH: '/handler/own', GREETING: hello}
limits: {procs: 32, mem_mb: 100, scratch_mb: 32}
";

/// The functions' names, and the files that each is installed with.
pub(crate) fn all() -> [(&'static str, Vec<(&'static str, &'static str)>); 3] {
    [("f", F), ("wsgi", WSGI), ("asgi", ASGI)].map(|(name, source)| {
        let files = vec![
            ("f.py", source),
            ("probe.py", PROBE),
            ("beside.py", ""),
            ("data.txt", "found"),
            ("own/mine.py", ""),
            ("ol.yaml", SETTINGS),
        ];
        (name, files)
    })
}
