# shellcheck shell=bash
# What every command here begins with: where things are, and how tools get installed.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
# Downloads, kernel trees and images outlive a checkout.
KPATCH_CACHE=${KPATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kpatch.fleet}
COLLECTIONS=$ROOT/.cache/collections
COLLECTION=$COLLECTIONS/ansible_collections/kpatch/fleet
export KPATCH_CACHE
export PATH=$VENV/bin:$PATH
export ANSIBLE_COLLECTIONS_PATH=$COLLECTIONS ANSIBLE_HOME=$ROOT/.cache/ansible
export ANSIBLE_NOCOWS=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$ROOT"

say() { printf '\n== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# debian_packages PACKAGE...: install those that are missing.
debian_packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $(id -u) == 0 ]] || die "these Debian packages are missing and only root can install them: ${missing[*]}"
    say "Installing Debian packages: ${missing[*]}"
    apt-get -q -o DPkg::Lock::Timeout=300 update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
}

# builder_packages PACKAGE...: install what role builder brings, and these.
builder_packages() {
    local packages
    mapfile -t packages < <(sed -n 's/^  - //p' "$ROOT/roles/builder/vars/main.yml")
    debian_packages "${packages[@]}" "$@"
}

# virtual_environment REQUIREMENTS...: a venv that holds what these files name.
virtual_environment() {
    local stamp file
    stamp=$VENV/.$(cat "$@" | sha256sum | cut -c1-16)
    [[ ! -e $stamp ]] || return 0
    debian_packages python3-venv
    say "Preparing the virtual environment .venv"
    # Debian's own interpreter: another one found on PATH may lack what the packages here were tried with.
    /usr/bin/python3 -m venv "$VENV"
    local arguments=()
    for file in "$@"; do arguments+=(-r "$file"); done
    "$VENV/bin/pip" install --quiet "${arguments[@]}"
    touch "$stamp"
}

user_environment() {
    debian_packages openssh-client
    virtual_environment requirements.txt
}

developer_environment() {
    debian_packages openssh-client git shellcheck
    virtual_environment requirements.txt tests/requirements.txt
}

# newest_python: the path of the newest interpreter on PATH or where pyenv keeps its own.
newest_python() {
    local candidate version best='' found=''
    for candidate in $(compgen -c python3 | grep -E '^python3(\.[0-9]+)?$' | sort -u) \
        /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        # A shim of pyenv may name a version that is not chosen: it does not run.
        version=$("$candidate" -c 'import ensurepip, sys; print("%d.%03d" % sys.version_info[:2])' 2>/dev/null) || continue
        [[ $version > $best ]] || continue
        best=$version found=$(type -P "$candidate")
    done
    [[ -n $found ]] || die "no Python 3 that can make a virtual environment was found"
    printf '%s\n' "$found"
}

# newest_core: puts first on PATH a second venv, with the newest ansible-core that the newest interpreter here can run.
# The rest of what the tests need is as pinned. It is kept in .cache/newest-core: remove that for a newer one.
NEWEST=$ROOT/.cache/newest-core
newest_core() {
    local pinned=$NEWEST/pinned.txt python
    if [[ ! -e $NEWEST/.ready ]]; then
        debian_packages python3-venv
        python=$(newest_python)
        say "Preparing .cache/newest-core with $python"
        rm -rf "$NEWEST"
        "$python" -m venv "$NEWEST"
        grep -hv '^ansible' requirements.txt tests/requirements.txt >"$pinned"
        "$NEWEST/bin/pip" install --quiet --constraint "$pinned" \
            ansible-core rich prometheus-client pytest pytest-xdist pyelftools jsonschema
        touch "$NEWEST/.ready"
    fi
    export PATH=$NEWEST/bin:$PATH
    ansible --version | sed -n '1s/.*core \(.*\)\]/ansible-core \1/p;s/^ *python version = \([0-9.]*\).*/Python \1/p'
}

# chosen_core: CORE=newest is newest_core; otherwise the pinned one of .venv stays.
chosen_core() {
    case ${CORE:-} in
        '') ;;
        newest) newest_core ;;
        *) die "CORE is '$CORE': it can be 'newest', or left out for the pinned ansible-core" ;;
    esac
}

# source_tree: the checkout under the name that its code imports itself by.
TREE=$ROOT/.cache/tree
source_tree() {
    mkdir -p "$TREE/ansible_collections/kpatch"
    ln -sfn "$ROOT" "$TREE/ansible_collections/kpatch/fleet"
}

# installed_collection: build the collection and install it, as a user would.
installed_collection() {
    local log=$ROOT/.cache/collection.log
    # What an earlier version left would be taken for this one.
    rm -rf "$COLLECTION" "$ROOT/.cache/dist"
    mkdir -p "$COLLECTIONS" "$ROOT/.cache/dist"
    {
        ansible-galaxy collection build --force --output-path "$ROOT/.cache/dist" "$ROOT" &&
            ansible-galaxy collection install --force --collections-path "$COLLECTIONS" "$ROOT"/.cache/dist/kpatch-fleet-*.tar.gz
    } >"$log" 2>&1 || {
        cat "$log" >&2
        die "the collection could not be built and installed"
    }
}

# strip_collection DIRECTORY: leave of an installed collection what it has to work with, and nothing else.
strip_collection() {
    find "$1" -mindepth 1 -maxdepth 1 ! -name meta ! -name plugins ! -name roles ! -name playbooks -exec rm -rf {} +
}
