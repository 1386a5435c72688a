# Completion of dbctl for bash; generated from the command tree of dbctl.

_dbctl_value() {  # sets wanted to what completes the value of option $1 of the command $path; 1: it takes none
    wanted=
    case "$path:$1" in
        *:--config) wanted='@file' ;;
        *:--app) wanted='' ;;
        *:--db) wanted='' ;;
        *:--profile) wanted='' ;;
        *:--url) wanted='' ;;
        *:--output) wanted='table json jsonl csv tsv markdown' ;;
        *:-o) wanted='table json jsonl csv tsv markdown' ;;
        *:--columns) wanted='' ;;
        *:--confirm) wanted='' ;;
        *:--timeout) wanted='' ;;
        'init:--env-file') wanted='@file' ;;
        'demo:--games') wanted='' ;;
        'demo:--users') wanted='' ;;
        'demo:--plays') wanted='' ;;
        'demo:--messages') wanted='' ;;
        'demo:--chats') wanted='' ;;
        'demo:--prompts') wanted='' ;;
        'demo:--seed') wanted='' ;;
        'demo:--shape') wanted='' ;;
        'users list:--role') wanted='' ;;
        'users list:--inactive') wanted='' ;;
        'users list:--filter') wanted='' ;;
        'users list:--limit') wanted='' ;;
        'users list:--offset') wanted='' ;;
        'users list:--sort') wanted='' ;;
        'users show:--id') wanted='' ;;
        'users create:--email') wanted='' ;;
        'users create:--role') wanted='' ;;
        'users create:--name') wanted='' ;;
        'users create:--set') wanted='' ;;
        'users create:--password-file') wanted='@file' ;;
        'users ensure:--email') wanted='' ;;
        'users ensure:--role') wanted='' ;;
        'users ensure:--name') wanted='' ;;
        'users ensure:--set') wanted='' ;;
        'users ensure:--password-file') wanted='@file' ;;
        'users update:--id') wanted='' ;;
        'users update:--email') wanted='' ;;
        'users update:--name') wanted='' ;;
        'users update:--set') wanted='' ;;
        'users delete:--id') wanted='' ;;
        'users delete:--inactive') wanted='' ;;
        'users delete:--transfer-to') wanted='' ;;
        'users set-password:--id') wanted='' ;;
        'users set-password:--password-file') wanted='@file' ;;
        'users set-role:--id') wanted='' ;;
        'users set-role:--inactive') wanted='' ;;
        'users activate:--id') wanted='' ;;
        'users activate:--inactive') wanted='' ;;
        'users deactivate:--id') wanted='' ;;
        'users deactivate:--inactive') wanted='' ;;
        'users unlock:--id') wanted='' ;;
        'users check-password:--id') wanted='' ;;
        'users check-password:--password-file') wanted='@file' ;;
        'users import:--existing') wanted='fail skip' ;;
        'roles list:--limit') wanted='' ;;
        'roles list:--offset') wanted='' ;;
        'roles list:--sort') wanted='' ;;
        'roles show:--id') wanted='' ;;
        'roles create:--description') wanted='' ;;
        'roles create:--priority') wanted='' ;;
        'roles create:--permission') wanted='' ;;
        'roles update:--id') wanted='' ;;
        'roles update:--name') wanted='' ;;
        'roles update:--description') wanted='' ;;
        'roles update:--priority') wanted='' ;;
        'roles delete:--id') wanted='' ;;
        'roles grant:--id') wanted='' ;;
        'roles revoke:--id') wanted='' ;;
        'roles permissions:--limit') wanted='' ;;
        'roles permissions:--offset') wanted='' ;;
        'roles permissions:--sort') wanted='' ;;
        'roles can:--id') wanted='' ;;
        'settings list:--category') wanted='' ;;
        'settings list:--user') wanted='' ;;
        'settings list:--id') wanted='' ;;
        'settings list:--limit') wanted='' ;;
        'settings list:--offset') wanted='' ;;
        'settings list:--sort') wanted='' ;;
        'settings get:--user') wanted='' ;;
        'settings get:--id') wanted='' ;;
        'settings set:--user') wanted='' ;;
        'settings set:--id') wanted='' ;;
        'settings reset:--user') wanted='' ;;
        'settings reset:--id') wanted='' ;;
        'settings validate:--user') wanted='' ;;
        'settings validate:--id') wanted='' ;;
        'settings export:--user') wanted='' ;;
        'settings export:--id') wanted='' ;;
        'settings diff:--user') wanted='' ;;
        'settings diff:--id') wanted='' ;;
        'settings apply:--mode') wanted='create-only merge exact' ;;
        'settings apply:--user') wanted='' ;;
        'settings apply:--id') wanted='' ;;
        'migrate status:--migrations') wanted='@directory' ;;
        'migrate status:--shape') wanted='' ;;
        'migrate plan:--to') wanted='' ;;
        'migrate plan:--migrations') wanted='@directory' ;;
        'migrate plan:--shape') wanted='' ;;
        'migrate up:--to') wanted='' ;;
        'migrate up:--steps') wanted='' ;;
        'migrate up:--migrations') wanted='@directory' ;;
        'migrate up:--shape') wanted='' ;;
        'migrate up:--repository') wanted='@directory' ;;
        'migrate down:--to') wanted='' ;;
        'migrate down:--steps') wanted='' ;;
        'migrate down:--migrations') wanted='@directory' ;;
        'migrate down:--shape') wanted='' ;;
        'migrate down:--repository') wanted='@directory' ;;
        'migrate adopt:--migrations') wanted='@directory' ;;
        'migrate adopt:--shape') wanted='' ;;
        'migrate mark:--migrations') wanted='@directory' ;;
        'migrate mark:--shape') wanted='' ;;
        'migrate repair:--migrations') wanted='@directory' ;;
        'migrate repair:--shape') wanted='' ;;
        'migrate new:--migrations') wanted='@directory' ;;
        'migrate verify:--migrations') wanted='@directory' ;;
        'migrate verify:--shape') wanted='' ;;
        'migrate drift:--migrations') wanted='@directory' ;;
        'migrate drift:--shape') wanted='' ;;
        'backup create:--table') wanted='' ;;
        'backup create:--format') wanted='' ;;
        'backup create:--compress') wanted='gzip zstd none' ;;
        'backup create:--repository') wanted='@directory' ;;
        'backup list:--repository') wanted='@directory' ;;
        'backup list:--limit') wanted='' ;;
        'backup list:--offset') wanted='' ;;
        'backup list:--sort') wanted='' ;;
        'backup show:--repository') wanted='@directory' ;;
        'backup verify:--repository') wanted='@directory' ;;
        'backup prune:--keep-last') wanted='' ;;
        'backup prune:--keep-hourly') wanted='' ;;
        'backup prune:--keep-daily') wanted='' ;;
        'backup prune:--keep-weekly') wanted='' ;;
        'backup prune:--keep-monthly') wanted='' ;;
        'backup prune:--keep-yearly') wanted='' ;;
        'backup prune:--keep-within') wanted='' ;;
        'backup prune:--repository') wanted='@directory' ;;
        'restore preview:--repository') wanted='@directory' ;;
        'restore apply:--repository') wanted='@directory' ;;
        'restore undo:--repository') wanted='@directory' ;;
        'integrity check:--table') wanted='' ;;
        'stats overview:--limit') wanted='' ;;
        'stats overview:--offset') wanted='' ;;
        'stats overview:--sort') wanted='' ;;
        'stats tables:--limit') wanted='' ;;
        'stats tables:--offset') wanted='' ;;
        'stats tables:--sort') wanted='' ;;
        'stats activity:--user') wanted='' ;;
        'stats activity:--action') wanted='' ;;
        'stats activity:--resource') wanted='' ;;
        'stats activity:--since') wanted='' ;;
        'stats activity:--limit') wanted='' ;;
        'stats activity:--offset') wanted='' ;;
        'stats locks:--limit') wanted='' ;;
        'stats locks:--offset') wanted='' ;;
        'stats locks:--sort') wanted='' ;;
        'stats connections:--limit') wanted='' ;;
        'stats connections:--offset') wanted='' ;;
        'stats connections:--sort') wanted='' ;;
        'stats slow:--limit') wanted='' ;;
        'stats slow:--offset') wanted='' ;;
        'stats slow:--sort') wanted='' ;;
        'stats indexes:--only') wanted='invalid duplicate redundant unused' ;;
        'stats indexes:--limit') wanted='' ;;
        'stats indexes:--offset') wanted='' ;;
        'stats indexes:--sort') wanted='' ;;
        'stats bloat:--limit') wanted='' ;;
        'stats bloat:--offset') wanted='' ;;
        'stats bloat:--sort') wanted='' ;;
        'stats reports:--limit') wanted='' ;;
        'stats reports:--offset') wanted='' ;;
        'stats reports:--sort') wanted='' ;;
        'stats run:--set') wanted='' ;;
        'stats run:--limit') wanted='' ;;
        'stats run:--offset') wanted='' ;;
        'maintain vacuum:--table') wanted='' ;;
        'maintain analyze:--table') wanted='' ;;
        'maintain optimize:--table') wanted='' ;;
        'maintain reindex:--table') wanted='' ;;
        'maintain cancel:--older-than') wanted='' ;;
        'sessions list:--state') wanted='active completed abandoned' ;;
        'sessions list:--user') wanted='' ;;
        'sessions list:--kind') wanted='' ;;
        'sessions list:--limit') wanted='' ;;
        'sessions list:--offset') wanted='' ;;
        'sessions list:--sort') wanted='' ;;
        'sessions revoke:--id') wanted='' ;;
        'sessions revoke:--inactive') wanted='' ;;
        'sessions cleanup:--rule') wanted='abandoned-plays activity-logs drafts expired-subscriptions expired-tokens expired-trials job-logs login-attempts revoked-tokens sent-messages stale-whatsapp-sessions stuck-campaigns' ;;
        'sessions cleanup:--older-than') wanted='' ;;
        'sessions rebuild-stats:--user') wanted='' ;;
        'schedule cron:--user') wanted='' ;;
        'search:--filter') wanted='' ;;
        'search:--query') wanted='' ;;
        'search:--with') wanted='' ;;
        'search:--id') wanted='' ;;
        'search:--mark') wanted='' ;;
        'search:--limit') wanted='' ;;
        'search:--offset') wanted='' ;;
        'search:--sort') wanted='' ;;
        'data rows:--filter') wanted='' ;;
        'data rows:--null') wanted='' ;;
        'data rows:--not-null') wanted='' ;;
        'data rows:--limit') wanted='' ;;
        'data rows:--offset') wanted='' ;;
        'data rows:--sort') wanted='' ;;
        'data set:--null') wanted='' ;;
        'data query:--file') wanted='@file' ;;
        'data query:--param') wanted='' ;;
        'data query:--within') wanted='' ;;
        'data query:--limit') wanted='' ;;
        'data export:--query') wanted='' ;;
        'data export:--format') wanted='csv jsonl' ;;
        'data export:--param') wanted='' ;;
        'data import:--format') wanted='csv jsonl' ;;
        *) return 1 ;;
    esac
}

_dbctl_step() {  # goes from the command $path to its subcommand $1, or counts an argument
    local next="${path:+$path }$1"
    case "$next" in
        'init') path=$next; count=0; return 0 ;;
        'demo') path=$next; count=0; return 0 ;;
        'apps') path=$next; count=0; return 0 ;;
        'status') path=$next; count=0; return 0 ;;
        'doctor') path=$next; count=0; return 0 ;;
        'users') path=$next; count=0; return 0 ;;
        'roles') path=$next; count=0; return 0 ;;
        'settings') path=$next; count=0; return 0 ;;
        'migrate') path=$next; count=0; return 0 ;;
        'backup') path=$next; count=0; return 0 ;;
        'restore') path=$next; count=0; return 0 ;;
        'integrity') path=$next; count=0; return 0 ;;
        'stats') path=$next; count=0; return 0 ;;
        'maintain') path=$next; count=0; return 0 ;;
        'sessions') path=$next; count=0; return 0 ;;
        'schedule') path=$next; count=0; return 0 ;;
        'search') path=$next; count=0; return 0 ;;
        'data') path=$next; count=0; return 0 ;;
        'completions') path=$next; count=0; return 0 ;;
        'apps list') path=$next; count=0; return 0 ;;
        'apps show') path=$next; count=0; return 0 ;;
        'apps check') path=$next; count=0; return 0 ;;
        'users list') path=$next; count=0; return 0 ;;
        'users show') path=$next; count=0; return 0 ;;
        'users create') path=$next; count=0; return 0 ;;
        'users ensure') path=$next; count=0; return 0 ;;
        'users update') path=$next; count=0; return 0 ;;
        'users delete') path=$next; count=0; return 0 ;;
        'users set-password') path=$next; count=0; return 0 ;;
        'users set-role') path=$next; count=0; return 0 ;;
        'users activate') path=$next; count=0; return 0 ;;
        'users deactivate') path=$next; count=0; return 0 ;;
        'users unlock') path=$next; count=0; return 0 ;;
        'users check-password') path=$next; count=0; return 0 ;;
        'users import') path=$next; count=0; return 0 ;;
        'users export') path=$next; count=0; return 0 ;;
        'roles list') path=$next; count=0; return 0 ;;
        'roles show') path=$next; count=0; return 0 ;;
        'roles create') path=$next; count=0; return 0 ;;
        'roles update') path=$next; count=0; return 0 ;;
        'roles delete') path=$next; count=0; return 0 ;;
        'roles grant') path=$next; count=0; return 0 ;;
        'roles revoke') path=$next; count=0; return 0 ;;
        'roles matrix') path=$next; count=0; return 0 ;;
        'roles permissions') path=$next; count=0; return 0 ;;
        'roles can') path=$next; count=0; return 0 ;;
        'settings list') path=$next; count=0; return 0 ;;
        'settings get') path=$next; count=0; return 0 ;;
        'settings set') path=$next; count=0; return 0 ;;
        'settings reset') path=$next; count=0; return 0 ;;
        'settings validate') path=$next; count=0; return 0 ;;
        'settings export') path=$next; count=0; return 0 ;;
        'settings diff') path=$next; count=0; return 0 ;;
        'settings apply') path=$next; count=0; return 0 ;;
        'migrate status') path=$next; count=0; return 0 ;;
        'migrate plan') path=$next; count=0; return 0 ;;
        'migrate up') path=$next; count=0; return 0 ;;
        'migrate down') path=$next; count=0; return 0 ;;
        'migrate adopt') path=$next; count=0; return 0 ;;
        'migrate mark') path=$next; count=0; return 0 ;;
        'migrate repair') path=$next; count=0; return 0 ;;
        'migrate new') path=$next; count=0; return 0 ;;
        'migrate verify') path=$next; count=0; return 0 ;;
        'migrate drift') path=$next; count=0; return 0 ;;
        'backup create') path=$next; count=0; return 0 ;;
        'backup list') path=$next; count=0; return 0 ;;
        'backup show') path=$next; count=0; return 0 ;;
        'backup verify') path=$next; count=0; return 0 ;;
        'backup prune') path=$next; count=0; return 0 ;;
        'restore preview') path=$next; count=0; return 0 ;;
        'restore apply') path=$next; count=0; return 0 ;;
        'restore undo') path=$next; count=0; return 0 ;;
        'integrity check') path=$next; count=0; return 0 ;;
        'integrity cross') path=$next; count=0; return 0 ;;
        'stats overview') path=$next; count=0; return 0 ;;
        'stats tables') path=$next; count=0; return 0 ;;
        'stats user') path=$next; count=0; return 0 ;;
        'stats activity') path=$next; count=0; return 0 ;;
        'stats locks') path=$next; count=0; return 0 ;;
        'stats connections') path=$next; count=0; return 0 ;;
        'stats slow') path=$next; count=0; return 0 ;;
        'stats indexes') path=$next; count=0; return 0 ;;
        'stats bloat') path=$next; count=0; return 0 ;;
        'stats reports') path=$next; count=0; return 0 ;;
        'stats run') path=$next; count=0; return 0 ;;
        'maintain vacuum') path=$next; count=0; return 0 ;;
        'maintain analyze') path=$next; count=0; return 0 ;;
        'maintain optimize') path=$next; count=0; return 0 ;;
        'maintain reindex') path=$next; count=0; return 0 ;;
        'maintain checkpoint') path=$next; count=0; return 0 ;;
        'maintain cancel') path=$next; count=0; return 0 ;;
        'sessions list') path=$next; count=0; return 0 ;;
        'sessions revoke') path=$next; count=0; return 0 ;;
        'sessions cleanup') path=$next; count=0; return 0 ;;
        'sessions rebuild-stats') path=$next; count=0; return 0 ;;
        'schedule cron') path=$next; count=0; return 0 ;;
        'search index') path=$next; count=0; return 0 ;;
        'search index status') path=$next; count=0; return 0 ;;
        'search index check') path=$next; count=0; return 0 ;;
        'search index build') path=$next; count=0; return 0 ;;
        'search index repair') path=$next; count=0; return 0 ;;
        'search index drop') path=$next; count=0; return 0 ;;
        'data rows') path=$next; count=0; return 0 ;;
        'data show') path=$next; count=0; return 0 ;;
        'data set') path=$next; count=0; return 0 ;;
        'data delete') path=$next; count=0; return 0 ;;
        'data query') path=$next; count=0; return 0 ;;
        'data export') path=$next; count=0; return 0 ;;
        'data import') path=$next; count=0; return 0 ;;
        'completions show') path=$next; count=0; return 0 ;;
        'completions install') path=$next; count=0; return 0 ;;
    esac
    count=$((count + 1))
}

_dbctl() {
    local current="${COMP_WORDS[COMP_CWORD]}" path= count=0 wanted= option= children= flags= word index only_arguments= IFS=$' \t\n'
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        if [[ -n $option ]]; then
            [[ $word == "=" ]] || option=  # bash takes --output=json apart at the sign
        elif [[ -n $only_arguments ]]; then
            count=$((count + 1))
        elif [[ $word == "--" ]]; then
            only_arguments=1
        elif [[ $word == -* ]]; then
            if _dbctl_value "$word"; then option=$word; fi
        else
            _dbctl_step "$word"
        fi
    done
    [[ -n $option && $current == "=" ]] && current=
    case "$path" in
        '') children='init demo apps status doctor users roles settings migrate backup restore integrity stats maintain sessions schedule search data completions'; flags='--version' ;;
        'init') children=''; flags='--env-file --protected --dry-run -n' ;;
        'demo') children=''; flags='--games --users --plays --messages --chats --prompts --seed --shape --dry-run -n' ;;
        'apps') children='list show check'; flags='' ;;
        'apps list') children=''; flags='' ;;
        'apps show') children=''; flags='' ;;
        'apps check') children=''; flags='' ;;
        'status') children=''; flags='--check' ;;
        'doctor') children=''; flags='--all-apps' ;;
        'users') children='list show create ensure update delete set-password set-role activate deactivate unlock check-password import export'; flags='' ;;
        'users list') children=''; flags='--role --active --no-active --never-signed-in --inactive --filter --limit --offset --sort' ;;
        'users show') children=''; flags='--id' ;;
        'users create') children=''; flags='--email --role --name --set --active --no-active --with-settings --password-stdin --password-file --generate --dry-run -n' ;;
        'users ensure') children=''; flags='--email --role --name --set --active --no-active --password-stdin --password-file --generate --dry-run -n' ;;
        'users update') children=''; flags='--id --email --name --set --dry-run -n' ;;
        'users delete') children=''; flags='--id --inactive --transfer-to --dry-run -n' ;;
        'users set-password') children=''; flags='--id --password-stdin --password-file --generate --dry-run -n' ;;
        'users set-role') children=''; flags='--id --inactive --dry-run -n' ;;
        'users activate') children=''; flags='--id --inactive --dry-run -n' ;;
        'users deactivate') children=''; flags='--id --inactive --dry-run -n' ;;
        'users unlock') children=''; flags='--id --dry-run -n' ;;
        'users check-password') children=''; flags='--id --password-stdin --password-file' ;;
        'users import') children=''; flags='--existing --generate --dry-run -n' ;;
        'users export') children=''; flags='--secrets' ;;
        'roles') children='list show create update delete grant revoke matrix permissions can'; flags='' ;;
        'roles list') children=''; flags='--limit --offset --sort' ;;
        'roles show') children=''; flags='--id' ;;
        'roles create') children=''; flags='--description --priority --permission --dry-run -n' ;;
        'roles update') children=''; flags='--id --name --description --priority --dry-run -n' ;;
        'roles delete') children=''; flags='--id --dry-run -n' ;;
        'roles grant') children=''; flags='--id --dry-run -n' ;;
        'roles revoke') children=''; flags='--id --dry-run -n' ;;
        'roles matrix') children=''; flags='' ;;
        'roles permissions') children=''; flags='--limit --offset --sort' ;;
        'roles can') children=''; flags='--id --explain' ;;
        'settings') children='list get set reset validate export diff apply'; flags='' ;;
        'settings list') children=''; flags='--category --public --no-public --user --id --secrets --limit --offset --sort' ;;
        'settings get') children=''; flags='--user --id --secrets' ;;
        'settings set') children=''; flags='--user --id --dry-run -n' ;;
        'settings reset') children=''; flags='--user --id --dry-run -n' ;;
        'settings validate') children=''; flags='--user --id' ;;
        'settings export') children=''; flags='--user --id --secrets' ;;
        'settings diff') children=''; flags='--user --id' ;;
        'settings apply') children=''; flags='--mode --user --id --dry-run -n' ;;
        'migrate') children='status plan up down adopt mark repair new verify drift'; flags='' ;;
        'migrate status') children=''; flags='--check --all-apps --migrations --shape' ;;
        'migrate plan') children=''; flags='--to --migrations --shape' ;;
        'migrate up') children=''; flags='--to --steps --migrations --shape --repository --no-backup --dry-run -n' ;;
        'migrate down') children=''; flags='--to --steps --all --migrations --shape --repository --no-backup --dry-run -n' ;;
        'migrate adopt') children=''; flags='--migrations --shape --dry-run -n' ;;
        'migrate mark') children=''; flags='--applied --pending --migrations --shape --dry-run -n' ;;
        'migrate repair') children=''; flags='--checksums --failed --missing --migrations --shape --dry-run -n' ;;
        'migrate new') children=''; flags='--migrations --dry-run -n' ;;
        'migrate verify') children=''; flags='--migrations --shape' ;;
        'migrate drift') children=''; flags='--migrations --shape' ;;
        'backup') children='create list show verify prune'; flags='' ;;
        'backup create') children=''; flags='--table --format --compress --repository --dry-run -n' ;;
        'backup list') children=''; flags='--repository --limit --offset --sort' ;;
        'backup show') children=''; flags='--repository' ;;
        'backup verify') children=''; flags='--deep --repository' ;;
        'backup prune') children=''; flags='--keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --keep-within --repository --dry-run -n' ;;
        'restore') children='preview apply undo'; flags='' ;;
        'restore preview') children=''; flags='--repository' ;;
        'restore apply') children=''; flags='--repository --dry-run -n' ;;
        'restore undo') children=''; flags='--repository --dry-run -n' ;;
        'integrity') children='check cross'; flags='' ;;
        'integrity check') children=''; flags='--quick --table' ;;
        'integrity cross') children=''; flags='' ;;
        'stats') children='overview tables user activity locks connections slow indexes bloat reports run'; flags='' ;;
        'stats overview') children=''; flags='--limit --offset --sort' ;;
        'stats tables') children=''; flags='--exact --limit --offset --sort' ;;
        'stats user') children=''; flags='' ;;
        'stats activity') children=''; flags='--user --action --resource --since --limit --offset' ;;
        'stats locks') children=''; flags='--waiting --limit --offset --sort' ;;
        'stats connections') children=''; flags='--limit --offset --sort' ;;
        'stats slow') children=''; flags='--limit --offset --sort' ;;
        'stats indexes') children=''; flags='--only --limit --offset --sort' ;;
        'stats bloat') children=''; flags='--limit --offset --sort' ;;
        'stats reports') children=''; flags='--limit --offset --sort' ;;
        'stats run') children=''; flags='--set --explain --limit --offset' ;;
        'maintain') children='vacuum analyze optimize reindex checkpoint cancel'; flags='' ;;
        'maintain vacuum') children=''; flags='--table --dry-run -n' ;;
        'maintain analyze') children=''; flags='--table --dry-run -n' ;;
        'maintain optimize') children=''; flags='--table --dry-run -n' ;;
        'maintain reindex') children=''; flags='--table --dry-run -n' ;;
        'maintain checkpoint') children=''; flags='--dry-run -n' ;;
        'maintain cancel') children=''; flags='--older-than --terminate --dry-run -n' ;;
        'sessions') children='list revoke cleanup rebuild-stats'; flags='' ;;
        'sessions list') children=''; flags='--state --user --kind --limit --offset --sort' ;;
        'sessions revoke') children=''; flags='--id --inactive --dry-run -n' ;;
        'sessions cleanup') children=''; flags='--rule --older-than --check --fast --dry-run -n' ;;
        'sessions rebuild-stats') children=''; flags='--user --dry-run -n' ;;
        'schedule') children='cron'; flags='' ;;
        'schedule cron') children=''; flags='--all-apps --user' ;;
        'search') children='index'; flags='--filter --query --with --hidden --id --count --explain --mark --limit --offset --sort' ;;
        'search index') children='status check build repair drop'; flags='' ;;
        'search index status') children=''; flags='' ;;
        'search index check') children=''; flags='' ;;
        'search index build') children=''; flags='--dry-run -n' ;;
        'search index repair') children=''; flags='--dry-run -n' ;;
        'search index drop') children=''; flags='--dry-run -n' ;;
        'data') children='rows show set delete query export import'; flags='' ;;
        'data rows') children=''; flags='--filter --null --not-null --secrets --limit --offset --sort' ;;
        'data show') children=''; flags='--secrets' ;;
        'data set') children=''; flags='--null --dry-run -n' ;;
        'data delete') children=''; flags='--dry-run -n' ;;
        'data query') children=''; flags='--file --param --within --secrets --limit' ;;
        'data export') children=''; flags='--query --format --param --secrets' ;;
        'data import') children=''; flags='--format --dry-run -n' ;;
        'completions') children='show install'; flags='' ;;
        'completions show') children=''; flags='' ;;
        'completions install') children=''; flags='' ;;
    esac
    if [[ -n $option ]]; then
        _dbctl_value "$option"
    elif [[ $current == -* && -z $only_arguments ]]; then
        COMPREPLY=($(compgen -W "$flags --config --app --db --profile --url --output -o --columns --excel-safe --quiet -q --verbose -v --no-color --yes -y --confirm --timeout --help -h" -- "$current"))
        return
    else
        wanted=$children
        case "$path:$count" in
            'init:'0) wanted='@file' ;;
            'demo:'0) wanted='@directory' ;;
            'users import:'0) wanted='@file' ;;
            'settings diff:'0) wanted='@file' ;;
            'settings apply:'0) wanted='@file' ;;
            'stats run:'0) wanted='admin-users artifacts campaigns chat chats failed-messages games-per-category games-per-library games-per-platform games-per-tag group-members jobs messages-by-status messages-by-user models most-played most-used-tags pending-jobs popular-prompts prompts-by-user providers public-prompts recent-messages recent-plays research running-campaigns sessions stuck summary tag-usage tags team-members team-prompts teams tools user-activity user-sessions users-by-team' ;;
            'search:'0) wanted='artifacts campaigns chats games messages prompts recipients' ;;
            'data import:'1) wanted='@file' ;;
            'completions show:'0) wanted='bash zsh fish' ;;
            'completions install:'0) wanted='bash zsh fish' ;;
        esac
    fi
    case "$wanted" in
        @file) IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        @directory) IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "$wanted" -- "$current")) ;;
    esac
}

complete -F _dbctl dbctl
