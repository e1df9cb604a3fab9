# The second half of the machine's start, in its real root: runs the command, then says how it ended
# and turns the machine off. Only busybox is used: every program of the host's would first have to
# come through 9p.
busybox=/run/v2/busybox

# The device of a port, by the name qemu gave it.
port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$($busybox cat "$entry/name")" = "$1" ]; then
            echo "/dev/${entry##*/}"
        fi
    done
}
output=$(port output)
status=$(port status)

# As systemd has it: mounts are shared until somebody says otherwise, and there is room for many
# files.
$busybox mount --make-rshared /
ulimit -Hn 524288

# A pipe and not the port itself, which only one process can open: programs do open /dev/stdout.
$busybox mkfifo /run/v2/output
$busybox cat /run/v2/output > "$output" &
pump=$!
$busybox setsid $busybox sh /run/v2/command < /dev/null > /run/v2/output 2>&1 &
wait $!
code=$?

# What the command left running may hold the pipe open for ever.
{ $busybox sleep 3; kill $pump; } 2> /dev/null &
wait $pump
echo $code > "$status"
$busybox poweroff -f
