#!/usr/bin/env bash
# Prepares a bare Debian or Ubuntu host: Python, a virtual environment in /opt/dualshard, a user, the
# units of systemd, folders for keys and runs, limits of open files. May be run again at any time.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: install-host.sh [--package PATH] [--extras NAMES] [--keys DIR] [--dry-run]
       install-host.sh --uninstall [--dry-run]

  --package PATH   a wheel or a source folder (default: the checkout that this file is in)
  --extras NAMES   further packages that dualshard can use, such as gpu or s3,parquet
  --keys DIR       keys of this host's roles, as `dualshard keygen DIR --copy ROLE OUT` makes them
  --dry-run        print the commands, and change nothing
  --uninstall      remove what this script installs; keys and runs stay
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here prefix=/opt/dualshard config=/etc/dualshard state=/var/lib/dualshard
readonly cache=/var/cache/dualshard units=/etc/systemd/system user=dualshard
readonly limits=/etc/security/limits.d/dualshard.conf command=/usr/local/bin/dualshard
package='' extras='' keys='' dry_run='' uninstall=''

# One line that names the value and the fix, as dualshard's own errors do.
refuse() {
    printf 'install-host.sh: %s\n' "$*" >&2
    exit 2
}

run() {
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@" | sed 's/ $//'
        printf '\n'
    else
        "$@"
    fi
}

# A line for people; in a dry run it is a comment among the commands.
say() { printf '%s%s\n' "${dry_run:+# }" "$*"; }

# Writes its input to a file.
write() {
    if [ -n "$dry_run" ]; then
        cat >/dev/null
        printf '# write %s\n' "$1"
    else
        cat >"$1"
    fi
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --package | --extras | --keys)
                [ $# -ge 2 ] || refuse "$1: expected a value; see --help"
                case $1 in
                    --package) package=$2 ;;
                    --extras) extras=$2 ;;
                    --keys) keys=$2 ;;
                esac
                shift
                ;;
            --dry-run) dry_run=yes ;;
            --uninstall) uninstall=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) refuse "$1: expected an option that there is; see --help" ;;
        esac
        shift
    done
    if [ -z "$package" ] && [ -f "$here/../pyproject.toml" ]; then
        package=$(cd "$here/.." && pwd)
    fi
}

check() {
    local os=''
    if [ -r /etc/os-release ]; then
        # shellcheck source=/dev/null
        os=$(. /etc/os-release && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    fi
    case " $os " in
        *' debian '* | *' ubuntu '*) ;;
        *) refuse "this system is '${os% }': expected Debian or Ubuntu; elsewhere install by hand, see docs/deploy.md" ;;
    esac
    [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || refuse "user $(id -un): expected root; use sudo, or --dry-run"
    [ -z "$uninstall" ] || return 0
    [ -n "$package" ] || refuse "--package: expected a wheel or a source folder; none is given, and this file is in no checkout"
    case $package in
        *.whl) [ -f "$package" ] || refuse "--package $package: expected a wheel; there is no such file" ;;
        *) [ -f "$package/pyproject.toml" ] || refuse "--package $package: expected a wheel, or a folder with pyproject.toml in it" ;;
    esac
    package=$(realpath "$package")
    case $extras in
        *[!a-z0-9,]*) refuse "--extras $extras: expected names with commas between them, such as s3,parquet" ;;
    esac
    [ -z "$keys" ] || [ -d "$keys/public" ] || refuse "--keys $keys: expected a folder with public/ in it; make one with dualshard keygen"
    for file in systemd/dualshard-controller.service systemd/dualshard.env; do
        [ -f "$here/$file" ] || refuse "$here/$file is missing: copy the whole folder that this file is in"
    done
}

# Whether systemd runs this host: not in a container, nor in a chroot.
has_systemd() { [ -d /run/systemd/system ]; }

install_python() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        run apt-get update -q
        run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3 python3-venv
    fi
    [ -n "$dry_run" ] || python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        refuse "$(python3 --version): expected Python 3.11 or later; use Debian 12 or Ubuntu 24.04, or later"
}

install_package() {
    [ -x "$prefix/bin/pip" ] || run python3 -m venv "$prefix"
    local pip=("$prefix/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check)
    run "${pip[@]}" "$package${extras:+[$extras]}"
    # A wheel of the same version may be another one: it alone is installed again.
    [ "$package" = "${package%.whl}" ] || run "${pip[@]}" --no-deps --force-reinstall "$package"
    run ln -sfn "$prefix/bin/dualshard" "$command"
}

install_user() {
    getent passwd "$user" >/dev/null ||
        run useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
    run install --directory --owner "$user" --group "$user" --mode 0750 "$state" "$cache"
}

install_config() {
    run install --directory --owner root --group "$user" --mode 0750 "$config"
    run install --directory --owner "$user" --group "$user" --mode 0700 "$config/keys"
    run install --directory --owner "$user" --group "$user" --mode 0755 "$config/keys/public"
    [ -e "$config/dualshard.env" ] ||
        run install --owner root --group "$user" --mode 0640 "$here/systemd/dualshard.env" "$config/dualshard.env"
    [ -n "$keys" ] || return 0
    for file in "$keys"/*.key; do
        [ ! -f "$file" ] || run install --owner "$user" --group "$user" --mode 0600 "$file" "$config/keys/"
    done
    for file in "$keys"/public/*.pub; do
        [ ! -f "$file" ] || run install --owner "$user" --group "$user" --mode 0644 "$file" "$config/keys/public/"
    done
}

# For roles that a login starts, as with `dualshard launch --launcher ssh`; units say it themselves.
install_limits() {
    run mkdir -p "${limits%/*}"
    printf '%s\n' '# Every connection is an open file.' '* soft nofile 65536' | write "$limits"
}

install_units() {
    run install --directory --mode 0755 "$units/dualshard-.service.d"
    for file in "$here"/systemd/*.service; do
        run install --mode 0644 "$file" "$units/"
    done
    run install --mode 0644 "$here/systemd/dualshard-.service.d/sandbox.conf" "$units/dualshard-.service.d/"
    ! has_systemd || run systemctl daemon-reload
}

remove_all() {
    if has_systemd; then
        run systemctl stop 'dualshard-*.service' || true
        for link in "$units"/*.wants/dualshard-*.service; do
            [ ! -L "$link" ] || run systemctl disable "${link##*/}" || true
        done
    fi
    for file in "$here"/systemd/*.service; do
        run rm -f "$units/${file##*/}"
    done
    run rm -rf "$units/dualshard-.service.d" "$prefix" "$cache"
    run rm -f "$limits" "$command"
    ! has_systemd || run systemctl daemon-reload
    ! getent passwd "$user" >/dev/null || run userdel "$user"
    say "keys and runs stay: $config, $state"
}

read_arguments "$@"
check
if [ -n "$uninstall" ]; then
    remove_all
    exit 0
fi
install_python
install_package
install_user
install_config
install_limits
install_units
say "next: write $config/dualshard.env, then systemctl start dualshard-worker@1 (see docs/deploy.md)"
