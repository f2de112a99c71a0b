#!/bin/sh
# launch.sh STATE MANAGER: becomes the manager, with its process id and its log in the folder STATE. A file of its own,
# because systemd-run changes dollar signs in the commands that it is given.
umask 022
echo $$ >"$1/manager.pid"
exec "$2" serve >>"$1/manager.log" 2>&1 </dev/null
