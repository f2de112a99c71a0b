#!/bin/sh
# launch.sh STATE MANAGER: becomes the manager, with the settings, the process id and the log in the folder STATE. A file
# of its own, because systemd-run changes dollar signs in the commands that it is given.
umask 022
# shellcheck source=/dev/null
. "$1/settings"
echo $$ >"$1/manager.pid"
exec "$2" serve >>"$1/manager.log" 2>&1 </dev/null
