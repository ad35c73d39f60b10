#!/usr/bin/env bash
# drover doctor: of another tree and of this host, with droverd and without, as root and as nobody;
# what is wrong is told with the line that mends it, and --fix and --undo change the host and back.
. "$(dirname "$0")/lib.sh"
world
kernel=$(nano)
# What is changed of the host below is changed in this world's own copies.
mkdir "$W/bin" "$W/module"
cp -a /etc "$W/etc"
mkdir -p "$W/etc/modprobe.d" "$W/etc/modules-load.d"
mount --bind "$W/etc" /etc || bail 'cannot mount'

doctor() { drover doctor -o json "$@"; }
field() { jq -r --arg check "$1" ".checks[] | select(.check == \$check) | $2"; } # field CHECK FILTER
result() { doctor "${@:2}" | field "$1" .result; }                                 # result CHECK ARGUMENT...
status() { "$@" >"$W/output" 2>&1; echo $?; }

# --- another tree ---

tree=$W/tree
mkdir -p $tree/{dev/net,etc,usr/bin,var/lib/drover,proc/sys/kernel,lib/modules/6.1.0} \
	$tree/sys/module/{kvm_amd/parameters,tun,bridge}
printf 'flags\t\t: fpu svm\n' | sed '1i processor\t: 0' >$tree/proc/cpuinfo
echo 6.1.0 >$tree/proc/sys/kernel/osrelease
echo kernel/nf_tables.ko >$tree/lib/modules/6.1.0/modules.builtin
echo kernel/vhost_net.ko: >$tree/lib/modules/6.1.0/modules.dep
echo 0 >$tree/sys/module/kvm_amd/parameters/nested
touch $tree/sys/module/{kvm_amd,tun,bridge}/initstate $tree/dev/{kvm,net/tun}
for p in qemu-system-"$(uname -m)" dnsmasq; do install -m 755 /dev/null $tree/usr/bin/$p; done

is "$(status drover doctor --root $tree)" 1 'a tree that lacks a program: exit status 1'
report=$(<"$W/output")
like "$report" $'\nnft +fail +it is not installed: .*; try: `apt-get install nftables`\n' 'what, why, and how it is mended'
like "$report" $'\nnested +info +nested virtualization is off in kvm_amd' 'nested KVM is off'
like "$report" $'\nfirewall +unseen ' 'what cannot be seen is told'
like "$report" 'drover doctor --fix. can do something about 2 of them' 'what --fix can do'
install -m 755 /dev/null $tree/usr/bin/nft
is "$(status drover doctor --root $tree)" 0 'with it: 0, though there are warnings'
is "$(status drover doctor --root $tree --strict)" 1 'which --strict counts'
is "$(doctor --root $tree | jq -c '[.changes[].check, .undo, .differences]')" '["nested","vhost-net",[],null]' \
	'as JSON'

is "$(status drover doctor --root $tree --fix </dev/null),$(find $tree/etc -type f)" 0, 'nobody to ask: nothing is done'
like "$(<"$W/output")" $'To turn on nested virtualization [^\n]*:\n    write '"$tree"$'/etc/modprobe.d/drover-nested.conf\ndeclined: there is nobody' \
	'but shown'
# At a terminal it asks, before each.
answers() { printf '%s\n' "$@" | timeout "$patience" script -qec "drover doctor --root $tree --fix" /dev/null >"$W/output" 2>&1; }
answers y n
is "$(cd $tree/etc && find . -type f)" ./modprobe.d/drover-nested.conf 'yes to the first, no to the second'
is "$(grep -v '^#' $tree/etc/modprobe.d/drover-nested.conf)" 'options kvm_amd nested=1' 'is what was done'
is "$(status drover doctor --root $tree --fix --yes),$(cd $tree/etc && find . -type f | sort | xargs)" \
	'0,./modprobe.d/drover-nested.conf ./modules-load.d/drover-vhost_net.conf' '--yes asks nothing'
is "$(status drover doctor --root $tree --undo --yes),$(find $tree/etc -type f)" 0, '--undo takes it all back'
is "$(status drover doctor --root $tree --undo --yes)" 0 'a second one finds nothing to do'

echo 'options kvm_amd nested=0' >$tree/etc/modprobe.d/drover-nested.conf
is "$(status drover doctor --root $tree --fix --yes)" 1 "a file that is not drover's is not written over"
like "$(<"$W/output")" 'failed: write .*: .* not of drover.s making' 'says so'
is "$(<$tree/etc/modprobe.d/drover-nested.conf)" 'options kvm_amd nested=0' 'and is as it was'
rm -r $tree/etc/modprobe.d $tree/etc/modules-load.d
mkdir "$W/elsewhere"
ln -s "$W/elsewhere" $tree/etc/modprobe.d
is "$(status drover doctor --root $tree --fix --yes),$(ls "$W/elsewhere")" 1, 'a link out of the tree is not followed'
echo 'options kvm_amd nested=0' >"$W/elsewhere/kvm.conf"
is "$(doctor --root $tree --fix --yes | jq -r '.results[] | select(.check == "nested") | .result')" refused \
	'what another file takes back is refused'

mount -t tmpfs -o size=50m tmpfs $tree/var/lib/drover
is "$(result space --root $tree)" fail 'little space is left'
umount $tree/var/lib/drover
cat >"$W/wants.ini" <<END
[vm web]
kernel = $kernel
tpm = yes
END
is "$(result swtpm --root $tree),$(result swtpm --root $tree -c "$W/wants.ini")" info,fail 'what is needed is for the configuration to say'
echo 'tpm = perhaps' >>"$W/wants.ini"
is "$(result config --root $tree -c "$W/wants.ini")" fail 'whose mistakes are told'
is "$(status drover doctor --root /nowhere)$(status drover doctor --root "$W/wants.ini")" 11 'a tree that is none'
is "$(status drover doctor --fix --undo)" 2 'opposites'

# --- this host, without droverd ---

is "$(result droverd),$(doctor | jq .differences)" warn,null 'without droverd it looks itself'
like "$(drover doctor)" $'\ndroverd +warn +.*`systemctl start droverd`\n' 'and says so'
user() { PATH=$W/user:$PATH setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
chmod 755 "$W"
mkdir "$W/user"
for p in droverd drover; do install -m 755 "$B/$p" "$W/user/$p"; done
PATH=$W/bin:$PATH
is "$(user drover doctor -o json | field firewall '.result + " " + .fix')" 'unseen `sudo drover doctor`' 'nobody cannot see the rules'
like "$(user drover doctor)" 'could not be seen, as root more of them can' 'is told so'
is "$(doctor | field firewall .result)" ok 'root can: nothing blocks'

# Programs that are too old, do not run, tell nothing.
old() { # old PROGRAM WORDS: one that prints them
	printf '#!/bin/sh\necho "%s"\n' "$2" >"$W/bin/$1"
	chmod 755 "$W/bin/$1"
}
old dnsmasq 'Dnsmasq version 2.70  Copyright'
old qemu-img 'qemu-img version 5.2.0 (Debian)'
old swtpm ''
printf '#!/bin/sh\nexit 3\n' >"$W/bin/nft"
chmod 755 "$W/bin/nft"
report=$(doctor)
like "$(field dnsmasq '.result + " " + .message' <<<"$report")" 'fail .*2\.70.*: too old, drover needs 2\.80' 'a program that is too old'
like "$(field qemu-img '.result + " " + .message' <<<"$report")" 'warn .*5\.2\.0.*: too old, drover needs 7\.2' 'one that is not always needed'
like "$(field nft '.result + " " + .message' <<<"$report")" 'fail .* does not run: ' 'one that fails'
is "$(field swtpm .result <<<"$report")" ok 'whose version is no matter'
rm "$W"/bin/{dnsmasq,qemu-img,swtpm,nft}

# --- firewalls of others ---

config <<END
[network taps]
cidr = 172.16.0.0/16
[vm one]
kernel = $kernel
memory = 16M
accel = tcg
autostart = no
END
firewall() { doctor -c "$W/drover.ini" | field firewall "$1"; }
opens() { # opens WHAT: the line that is printed does open it
	local line
	line=$(firewall .fix | head -n 1)
	like "$line" '^`.*`$' "$1: the line"
	line=${line#\`}
	ok "$1: it can be typed" sh -c "${line%\`}"
	is "$(firewall .result)" ok "$1: and opens it"
}
is "$(firewall .result)" ok 'nothing blocks'
iptables -N DOCKER-USER && iptables -A FORWARD -j DOCKER-USER && iptables -P FORWARD DROP
like "$(firewall '.result + " " + .message')" "^fail Docker's chain FORWARD .* drops what guests" "Docker's FORWARD drop"
is "$(status drover doctor -c "$W/drover.ini")" 1 'exit status 1'
opens Docker
iptables -P FORWARD ACCEPT && iptables -F && iptables -X DOCKER-USER
nft -f - <<'END'
table inet other {
	chain in { type filter hook input priority 0; policy drop; ct state established accept; }
	chain through { type filter hook forward priority 0; policy drop; }
}
END
is "$(firewall .result | xargs)" 'fail fail' 'two chains are two findings'
ok 'each with its line' eval 'firewall .fix | tr -d "\`" | sh'
is "$(firewall .result)" ok 'which open both'
nft delete table inet other
iptables -N ufw-before-input && iptables -A INPUT -j ufw-before-input && iptables -P INPUT DROP
like "$(firewall .fix)" 'ufw allow in on tap\+' 'ufw'
iptables -P INPUT ACCEPT && iptables -F && iptables -X ufw-before-input
nft -f - <<'END'
table inet firewalld {
	chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state established accept; reject; }
}
END
like "$(firewall .fix)" 'firewall-cmd --permanent --zone=trusted --add-interface=tap\+' firewalld
nft delete table inet firewalld

# --- nested KVM: a module that is played, and the real --fix ---

mkdir -p "$W/module/kvm_amd/parameters"
echo N >"$W/module/kvm_amd/parameters/nested"
echo 0 >"$W/module/kvm_amd/refcnt"
touch "$W/module/kvm_amd/initstate"
mount --bind "$W/module" /sys/module
cat >"$W/bin/modprobe" <<END
#!/bin/sh
echo "\$*" >>$W/modprobe.log
[ ! -e $W/broken ] || [ "\$1" = -r ] || exit 1
case \$1 in
-r) ;;
kvm_amd)
	if grep -qs '^options kvm_amd nested=1' /etc/modprobe.d/*.conf; then echo 1; else echo N; fi >/sys/module/kvm_amd/parameters/nested ;;
esac
END
chmod 755 "$W/bin/modprobe"
nested=/etc/modprobe.d/drover-nested.conf
fix() { doctor "$@" --yes | jq -r '.results[] | select(.check == "nested") | .result + " " + (.message // "")'; }

baseline
start_droverd
is "$(doctor | jq -c '[.checks[] | select(.check == "droverd")], .differences' | xargs)" '[] []' 'with droverd it is asked'
is "$(result nested)" info 'nested KVM is off'
ok "a machine" drover start one
like "$(fix --fix)" "^refused machines are running: qemu-system-[^ ]+ \(pid $(vm_pid one)\); stop them" 'while a machine runs it stays off'
is "$(status drover doctor --fix --yes),$(cat "$W/modprobe.log" 2>/dev/null)" 1, 'which is no success, and reloads nothing'
ok 'nor writes a file' [ ! -e $nested ]
drover kill one >/dev/null
echo 1 >"$W/module/kvm_amd/refcnt"
like "$(fix --fix)" '^refused machines are running: KVM is in use' "somebody else's machine"
echo 0 >"$W/module/kvm_amd/refcnt"
is "$(user env DROVER_SOCKET=/none drover doctor -o json --fix --yes | jq -r '.results[] | select(.check == "nested") | .result')" refused \
	'nobody may not'
is "$(fix --fix)" 'done ' 'then it is turned on'
is "$(xargs <"$W/modprobe.log"),$(result nested)" '-r kvm_amd kvm_amd,ok' 'the module is loaded again, and has it'
rm "$W/modprobe.log"
is "$(fix --undo)" 'done ' '--undo turns it off'
is "$(xargs <"$W/modprobe.log"),$(result nested),$(ls $nested 2>/dev/null)" '-r kvm_amd kvm_amd,info,' 'and removes the file'
touch "$W/broken"
like "$(fix --fix)" '^failed run modprobe kvm_amd: ' 'a module that does not come back'
ok 'leaves no file behind' [ ! -e $nested ]
rm "$W/broken"
ok 'the end' stop_droverd
audit_clean 'afterwards'
done_testing
