# shellcheck shell=bash
# Who the benchmarks and campaigns are. Sourced by them, from the top folder: their servers take
# ADMIN_TOKEN from the environment, and make_token asks one of them for a token of everything else.
export ADMIN_TOKEN=bench-0123456789-0123456789-0123456789-0123456789

make_token() { # address of the server
    curl -sf "$1/api/v1/tokens" -H "authorization: Bearer $ADMIN_TOKEN" \
        -H 'content-type: application/json' -d '{"nombre":"bench","dias":1,"roles":[
            {"rol":"cajero","empresa":"banco"},{"rol":"operador"},{"rol":"auditor"}]}' |
        sed 's/.*"token":"\([^"]*\)".*/\1/'
}
