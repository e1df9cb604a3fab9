"""Decodes the body of a request for f(event), in bounded memory. (Web apps get the body as it was sent.)"""

MOST_MEMBERS = 1000  # the most members of one gzip body; each costs a copy of what follows it


def decoded(body, encoding, limit):
    """`body` without its encoding. Raises OverflowError if the result is longer than `limit`, ValueError if it can't be decoded."""
    try:
        import zlib
    except ImportError:
        raise ValueError("its Content-Encoding is %s, which this Python can't decode" % encoding) from None
    parts, room = [], limit
    for _ in range(MOST_MEMBERS):
        member = zlib.decompressobj(31)  # 31: only gzip's format is accepted
        try:
            part = member.decompress(body, room + 1)
        except zlib.error as error:
            raise ValueError("its Content-Encoding is %s, but it is none (%s)" % (encoding, error)) from None
        room -= len(part)
        if room < 0:
            raise OverflowError(
                "the request body is longer than %d bytes once it is decoded, which is what max_body_mb and a quarter of the "
                "function's limits.mem_mb allow" % limit
            )
        if not member.eof:
            raise ValueError("its Content-Encoding is %s, but its end is missing" % encoding)
        parts.append(part)
        body = member.unused_data
        if not body.strip(b"\0"):  # gzip files may be padded with zeros
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise ValueError("it has more than %d parts of %s" % (MOST_MEMBERS, encoding))
