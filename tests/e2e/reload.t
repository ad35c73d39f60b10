#!/usr/bin/env bash
# An edited file: plan says what would happen, reload and SIGHUP do it, and whoever the change is
# not about runs on in the same process. A file with mistakes changes nothing.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
write() { # write MEMORY-OF-CHANGED MACHINE...
	local memory=$1 m
	shift
	{
		printf '[network taps]\ncidr = 172.16.0.0/16\n'
		printf '[template nano]\nkernel = %s\nmemory = 16M\naccel = tcg\nnetwork = taps\n' "$kernel"
		for m; do
			printf '[vm %s]\ntemplate = nano\n' "$m"
			[ "$m" != changed ] || echo "memory = $memory"
		done
	} | config
}
write 16M stays goes changed
baseline
start_droverd
for m in stays goes changed; do ok "$m runs" vm_wait $m running; done
stays=$(vm_pid stays) changed=$(vm_pid changed) goes=$(vm_pid goes)
is "$(drover plan -o json)" '{"actions":[]}' 'nothing changed: the plan is empty'
ok 'and a reload does nothing' drover reload
is "$(vm_pid stays),$(vm_pid changed),$(vm_pid goes)" "$stays,$changed,$goes" 'to nobody'

write 20M stays changed added
plan=$(drover plan -o json)
is "$(jq -c '[.actions[] | [.op, .kind, .name]] | sort' <<<"$plan")" \
	'[["remove","vm","goes"],["restart","vm","changed"],["start","vm","added"]]' 'the plan'
is "$(jq -c '.actions[] | select(.name == "changed") | .keys' <<<"$plan")" '["memory"]' 'names the keys'
like "$(jq -r '.actions[] | select(.name == "changed") | .reason' <<<"$plan")" '16M.*20M' 'and why'
like "$(drover plan)" 'changed' 'the plan for people'
is "$(vm_pid goes)" "$goes" 'it was only a plan'
kill -HUP "$DROVERD"
ok 'SIGHUP: what is new starts' vm_wait added running
ok 'what changed is restarted' wait_for "$patience" runs_anew changed "$changed"
ok 'with the new value' contains "/proc/$(vm_pid changed)/cmdline" '(^|[^0-9])20([^0-9]|$)'
ok 'what is gone is stopped' wait_for "$patience" dead "$goes"
ok 'and no longer listed' wait_for "$patience" not says goes drover list
is "$(vm_pid stays)" "$stays" 'what did not change runs on in the same process'
is "$(drover plan -o json)" '{"actions":[]}' 'now the plan is empty'

# A live key: no restart.
changed=$(vm_pid changed)
sed -i 's/^\[vm changed\]$/&\nstop_timeout = 7/' "$W/drover.ini"
is "$(drover plan -o json | jq -c '[.actions[] | [.op, .name, .keys]]')" \
	'[["update","changed",["stop_timeout"]]]' 'a live key is an update'
ok 'reload' drover reload
is "$(vm_pid changed)" "$changed" 'without a restart'
is "$(drover plan -o json)" '{"actions":[]}' 'and it is applied'

# A broken file.
cp "$W/drover.ini" "$W/good.ini"
all=$(vm_pid stays),$(vm_pid changed),$(vm_pid added)
n=$(($(wc -l <"$W/drover.ini") + 1))
cat >>"$W/drover.ini" <<'END'
[vm broken]
template = nano
memroy = 16M
vcpus = many
[vm worse]
template = nothing
[nonsense x]
END
errors=$(droverd -n -c "$W/drover.ini" 2>&1)
is $? 1 'droverd -n refuses a broken file'
like "$errors" "drover\.ini:$((n + 2)): .*memroy" 'it names file and line of an unknown key'
like "$errors" "memory" 'and the key that was meant'
like "$errors" "drover\.ini:$((n + 3)): .*many" 'of a bad value'
like "$errors" "drover\.ini:$((n + 5)): .*nothing" 'of a reference to nothing'
like "$errors" "drover\.ini:$((n + 6)): .*nonsense" 'and of an unknown section: all of them'
is "$(drover check "$W/drover.ini" 2>&1)" "$errors" 'drover check says the same'
errors=$(drover reload 2>&1)
is $? 1 'reload fails'
for i in 2 3 5 6; do like "$errors" "drover\.ini:$((n + i)): " "and tells of line $((n + i))"; done
drover plan >/dev/null 2>&1
is $? 1 'plan fails too'
lines=$(droverd_log | wc -l)
kill -HUP "$DROVERD"
ok 'SIGHUP says so in the log' wait_for 30 says "drover\.ini:$((n + 2)): " \
	tail -n "+$((lines + 1))" "$W/droverd-$starts.log"
is "$(vm_pid stays),$(vm_pid changed),$(vm_pid added)" "$all" 'nothing changed'
ok 'and nobody was added' not vm_is broken running
cp "$W/good.ini" "$W/drover.ini"
is "$(drover plan -o json)" '{"actions":[]}' 'with the file mended the plan is empty'
droverd -n -c "$W/drover.ini" >"$W/check" 2>&1
is $? 0 'droverd -n likes it'

# A stop by a person outlives a reload.
drover stop added >/dev/null
ok 'reload' drover reload
ok 'what a person stopped stays stopped' vm_is added stopped
for m in stays changed; do drover stop $m >/dev/null || fail "stop $m"; done
ok 'SIGTERM' stop_droverd
audit_clean 'after the reloads'
launch_droverd "$W/nowhere.ini"
wait "$DROVERD"
is $? 1 'a file that is not there: exit status 1'
like "$(droverd_log)" 'nowhere\.ini.*No such file' 'and a message that names it'
done_testing
