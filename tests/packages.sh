# shellcheck shell=bash
# Installs Debian or Ubuntu packages that a script needs and the machine lacks. Sourced by
# tests/run and .ci/run.

# Debian keeps daemons such as mosquitto in /usr/sbin, which is not in the PATH of most users.
export PATH="$PATH:/usr/sbin:/sbin"

# Root runs a command as it is, others through sudo; where nobody is there to type a password,
# sudo must do without one.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo -- "$@"
    else
        sudo -n -- "$@"
    fi
}

# require_packages 'command package why...' ...
#
# Installs the packages whose command is missing and says what and why. Does nothing, and asks
# for nothing, when all are there.
require_packages() {
    local need command package why
    local -a missing=()
    for need in "$@"; do
        read -r command package why <<<"$need"
        if ! command -v "$command" >/dev/null; then
            missing+=("$package")
            echo "needs $command: $why (Debian package $package)"
        fi
    done
    if [ "${#missing[@]}" = 0 ]; then
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        echo "error: no apt-get here; install by hand: ${missing[*]}" >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! { command -v sudo >/dev/null && as_root true; }; then
        echo "error: neither root nor sudo; have somebody run: apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    without_services "${missing[@]}"
}

# Installs packages without the services that some of them start.
#
# The packages mariadb-server, mosquitto and prometheus start a server on installation and at each boot. The tests
# start their own, on ports of their own, so a machine that had no broker shall have none running
# afterwards either. A runtime mask keeps the units from starting meanwhile (it lives in /run,
# so even if this script is killed the next boot forgets it), and they are left disabled.
# A package that was there before is never touched: it is not in the list.
without_services() {
    local package status=0
    local -a units=()
    for package in "$@"; do
        case "$package" in
            mariadb-server) units+=(mariadb.service) ;;
            mosquitto | prometheus) units+=("$package.service") ;;
        esac
    done
    if [ "${#units[@]}" != 0 ] && [ -d /run/systemd/system ]; then
        as_root systemctl --quiet mask --runtime "${units[@]}"
    fi
    apt_install "$@" || status=$?
    if [ "${#units[@]}" = 0 ]; then
        return "$status"
    fi
    if [ -d /run/systemd/system ]; then
        as_root systemctl --quiet unmask --runtime "${units[@]}"
        if [ "$status" = 0 ]; then
            as_root systemctl --quiet disable "${units[@]}"
            echo "left off: ${units[*]} (systemctl enable --now starts them)"
        fi
    elif [ "$status" = 0 ]; then
        # Without systemd an init script may have started it; a container's usually may not.
        for package in "${units[@]}"; do
            as_root service "${package%.service}" stop >/dev/null 2>&1 || true
        done
    fi
    return "$status"
}

apt_install() {
    local -a install=(env DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes
        --no-install-recommends install "$@")
    # The lists on the machine may be old, or none; they are fetched only where they do not do.
    if ! as_root "${install[@]}" >/dev/null 2>&1; then
        as_root apt-get --quiet --quiet update
        as_root "${install[@]}" >/dev/null
    fi
}

# need_for_environments why
#
# Debian's python3 comes without what makes an environment. No command tells, so what is printed
# here, a line for require_packages, names one that is missing whenever it is asked for.
need_for_environments() {
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        echo "python3-venv python3-venv $1"
    fi
}
