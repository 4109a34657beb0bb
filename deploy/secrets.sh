#!/bin/sh
# Makes what compose.yaml needs and git must not hold: passwords in secrets/, the user that reads them in .env, and
# the folder workspace/. What is there already stays as it is.
set -eu
cd "$(dirname "$0")/.."
umask 077

# The user whom .env names already; PostgreSQL does not run as root, so root's files go to the image's own user.
named=$(sed -n 's/^OPTSTUDY_USER=//p' .env 2>/dev/null | tail -n 1)
user=$(id -u):$(id -g)
test "$(id -u)" != 0 || user=${named:-10001:10001}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
known() { # the password that stands in secrets/ after the pattern, in the first such file; else a new one
  pattern=$1
  shift
  found=$(cd secrets && sed -n "s/^$pattern//p" "$@" 2>/dev/null | head -n 1)
  printf %s "${found:-$(random)}"
}
keep() { # writes standard input to a file of secrets/ that is not there yet, as a whole or not at all
  test ! -e "secrets/$1" || return 0
  cat >"secrets/.$1"
  mv "secrets/.$1" "secrets/$1"
}

mkdir -p secrets
known '[^#]*:mlflow:' pgpass | keep postgres_password
known '[a-z_]*password *= *' credentials mlflow_auth.ini | keep mlflow_password
postgres=$(cat secrets/postgres_password)
mlflow=$(cat secrets/mlflow_password)

keep pgpass <<END
*:*:*:mlflow:$postgres
END
keep mlflow_server.env <<END
MLFLOW_FLASK_SERVER_SECRET_KEY=$(random)
END
keep mlflow_auth.ini <<END
[mlflow]
database_uri = postgresql+psycopg2:///mlflow
default_permission = READ
admin_username = admin
admin_password = $mlflow
END
keep credentials <<END
[mlflow]
mlflow_tracking_username = admin
mlflow_tracking_password = $mlflow
END

umask 022
if test -z "$named"; then
  test -z "$(tail -c 1 .env 2>/dev/null)" || echo >>.env # or the last line and ours would be one
  echo "OPTSTUDY_USER=$user" >>.env
fi
made=
test -d workspace || made=workspace
mkdir -p workspace
test "$(id -u)" != 0 || chown "$user" secrets secrets/* $made
echo "MLflow's user is admin, its password is in secrets/mlflow_password" >&2
