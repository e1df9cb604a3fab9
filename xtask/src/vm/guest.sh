# The second half of the machine's start, in its real root: runs the command, reports its exit status, and turns the machine off. Only
# busybox is used, because every program of the host would first have to be read through 9p.
busybox=/run/v2/busybox

# The device of the port with this name in qemu.
port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$($busybox cat "$entry/name")" = "$1" ]; then
            echo "/dev/${entry##*/}"
        fi
    done
}
output=$(port output)
status=$(port status)

# As under systemd: mounts are shared unless changed, and many files may be open.
$busybox mount --make-rshared /
ulimit -Hn 524288

# A pipe and not the port itself: only one process can open a port, and programs do open /dev/stdout.
$busybox mkfifo /run/v2/output
$busybox cat /run/v2/output > "$output" &
pump=$!
$busybox setsid $busybox sh /run/v2/command < /dev/null > /run/v2/output 2>&1 &
wait $!
code=$?

# Processes that the command left running may keep the pipe open for ever.
{ $busybox sleep 3; kill $pump; } 2> /dev/null &
wait $pump
echo $code > "$status"
$busybox poweroff -f
