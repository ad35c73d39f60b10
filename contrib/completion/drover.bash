# Completion of drover for bash; made by `drover help --completion`.
_drover()
{
	local cur=${COMP_WORDS[COMP_CWORD]} verb= opts= names= files= i w
	local words=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		--socket | -o | --output) i=$((i + 1)) ;;
		-*) ;;
		*) words+=("$w") ;;
		esac
	done
	COMPREPLY=()
	if [ ${#words[@]} = 0 ]; then
		COMPREPLY=($(compgen -W 'list show start stop kill restart pause resume suspend reset nmi resize disk nic rm cancel clone migrate snapshot ssh console log qmp hmp screendump dump stats ch why events doctor check plan reload config pull image registry net ca version help --socket --output --help --version' -- "$cur"))
		return
	fi
	verb=${words[0]}
	case $verb in
	disk)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'list add remove' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	nic)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'list add remove' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	snapshot)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'create list show restore delete' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	image)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'list rm inspect import export outdated prune verify' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	registry)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'list' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	net)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'list show leases check graph' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	ca)
		if [ ${#words[@]} = 1 ]; then
			COMPREPLY=($(compgen -W 'show' -- "$cur"))
			return
		fi
		verb="$verb ${words[1]}"
		;;
	esac
	case $verb in
	'list') opts='--all --help' ;;
	'show') opts='--help' names=1 ;;
	'start') opts='--discard --wait --no-wait --timeout --help' names=1 ;;
	'stop') opts='--timeout --wait --no-wait --wait-limit --help' names=1 ;;
	'kill') opts='--wait --no-wait --timeout --help' names=1 ;;
	'restart') opts='--wait --no-wait --timeout --help' names=1 ;;
	'pause') opts='--wait --no-wait --timeout --help' names=1 ;;
	'resume') opts='--wait --no-wait --timeout --help' names=1 ;;
	'suspend') opts='--wait --no-wait --timeout --help' names=1 ;;
	'reset') opts='--wait --no-wait --timeout --help' names=1 ;;
	'nmi') opts='--wait --no-wait --timeout --help' names=1 ;;
	'resize') opts='--vcpus --memory --help' names=1 ;;
	'disk list') opts='--help' names=1 ;;
	'disk add') opts='--id --format --readonly --serial --help' names=1 files=1 ;;
	'disk remove') opts='--help' names=1 ;;
	'nic list') opts='--help' names=1 ;;
	'nic add') opts='--network --mac --help' names=1 ;;
	'nic remove') opts='--help' names=1 ;;
	'rm') opts='--disks --wait --no-wait --timeout --help' names=1 ;;
	'cancel') opts='--id --wait --no-wait --timeout --help' names=1 ;;
	'clone') opts='--from --wait --no-wait --timeout --help' names=1 ;;
	'migrate') opts='--to --via --copy-disks --max-bandwidth --resolve --wait --no-wait --timeout --help' names=1 ;;
	'snapshot create') opts='--description --disks --crash-consistent --wait --no-wait --timeout --help' names=1 ;;
	'snapshot list') opts='--help' names=1 ;;
	'snapshot show') opts='--help' names=1 ;;
	'snapshot restore') opts='--wait --no-wait --timeout --help' names=1 ;;
	'snapshot delete') opts='--wait --no-wait --timeout --help' names=1 ;;
	'ssh') opts='--wait --help' names=1 ;;
	'console') opts='--once --share --force --read-only --no-replay --raw --help' names=1 ;;
	'log') opts='--boot --follow --help' names=1 ;;
	'qmp') opts='--write --help' names=1 ;;
	'hmp') opts='--write --help' names=1 ;;
	'screendump') opts='--help' names=1 files=1 ;;
	'dump') opts='--help' names=1 ;;
	'stats') opts='--help' names=1 ;;
	'ch') opts='--write --help' names=1 ;;
	'why') opts='--help' names=1 ;;
	'events') opts='--since --follow --help' names=1 ;;
	'doctor') opts='--fix --yes --undo --strict --root --config --help' ;;
	'check') opts='--help' files=1 ;;
	'plan') opts='--help' ;;
	'reload') opts='--help' ;;
	'config') opts='--all --help' ;;
	'pull') opts='--policy --help' ;;
	'image list') opts='--help' ;;
	'image rm') opts='--help' ;;
	'image inspect') opts='--help' ;;
	'image import') opts='--name --help' files=1 ;;
	'image export') opts='--to --help' ;;
	'image outdated') opts='--help' ;;
	'image prune') opts='--help' ;;
	'image verify') opts='--help' ;;
	'registry list') opts='--help' ;;
	'net list') opts='--help' ;;
	'net show') opts='--help' names=1 ;;
	'net leases') opts='--help' names=1 ;;
	'net check') opts='--help' names=1 ;;
	'ca show') opts='--help' ;;
	'net graph') opts='--dot --svg --help' ;;
	'version') opts='--help' ;;
	'help') opts='--completion --man --help' ;;
	esac
	case $cur in
	-*) COMPREPLY=($(compgen -W "$opts --socket --output" -- "$cur")) ;;
	*)
		if [ -n "$names" ]; then
			COMPREPLY=($(compgen -W "$(drover list --all 2>/dev/null |
				awk 'NR > 1 { print $1 }')" -- "$cur"))
		elif [ -n "$files" ]; then
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		;;
	esac
}
complete -F _drover drover
