#include "ctl/ctl.h"

#define WAITING                                                                                    \
	{ "wait", 'w', NULL, "return when it is done (the default)" },                             \
		{ "no-wait", 0, NULL, "return when the operation has begun" },                     \
	{                                                                                          \
		"timeout", 't', "SECONDS", "stop waiting after so long (default 3600)"             \
	}

#define WRITE                                                                                      \
	{                                                                                          \
		"write", 'w', NULL, "pass on what may change the machine, too"                     \
	}

/* One row a verb: the parser, the help, the completion and the manual page read this table. */
const struct verb verbs[] = {
	{ "Machines", "list", "", 0, 0, false, "List the machines", NULL,
		{ { "all", 'a', NULL, "removed ones whose disks are still there, too" } },
		verb_list },
	{ "Machines", "show", "NAME...", 1, -1u, false, "Show all that is known of a machine", NULL,
		{ { 0 } }, verb_show },
	{ "Machines", "start", "NAME...", 1, -1u, false, "Start machines",
		"Waits until the monitor says that the machine runs; images are pulled first. A machine\n"
		"that is suspended goes on where it was.",
		{ { "discard", 0, NULL, "boot a suspended machine afresh" }, WAITING },
		verb_start },
	{ "Machines", "stop", "NAME...", 1, -1u, false, "Stop machines by their power button",
		"A guest that does not shut down in its stop_timeout, or in the time that --timeout\n"
		"gives it, is stopped harder. A stop that finds one under way joins it, and can only\n"
		"shorten the guest's time.",
		{ { "timeout", 't', "SECONDS", "the guest's time to shut down, this once" },
			{ "wait", 'w', NULL, "return when it is done (the default)" },
			{ "no-wait", 0, NULL, "return when the operation has begun" },
			{ "wait-limit", 0, "SECONDS",
				"stop waiting after so long (default 3600)" } },
		verb_stop },
	{ "Machines", "kill", "NAME...", 1, -1u, false, "Stop machines at once, as by a power cut",
		NULL, { WAITING }, verb_kill },
	{ "Machines", "restart", "NAME...", 1, -1u, false, "Stop and start machines", NULL,
		{ WAITING }, verb_restart },
	{ "Machines", "pause", "NAME...", 1, -1u, false, "Pause running machines", NULL,
		{ WAITING }, verb_pause },
	{ "Machines", "resume", "NAME...", 1, -1u, false, "Resume paused or suspended machines",
		NULL, { WAITING }, verb_resume },
	{ "Machines", "suspend", "NAME...", 1, -1u, false, "Put machines down on disk",
		"Memory and devices are written to disk and the hypervisor ends; `drover start` or\n"
		"`drover resume` lets the guest go on, also after a reboot of the host.",
		{ WAITING }, verb_suspend },
	{ "Machines", "reset", "NAME...", 1, -1u, false, "Reset machines, as by their button", NULL,
		{ WAITING }, verb_reset },
	{ "Machines", "nmi", "NAME...", 1, -1u, false, "Send guests a non-maskable interrupt", NULL,
		{ WAITING }, verb_nmi },
	{ "Machines", "resize", "NAME", 1, 1, false,
		"Change a running machine's processors and memory",
		"Until the run ends; up to vcpus_max and memory_max of its configuration. The guest\n"
		"must know how to take them, and to let go of them.",
		{ { "vcpus", 'n', "N", "so many processors in all" },
			{ "memory", 'm', "SIZE", "so much memory in all, e.g. 1G" } },
		verb_resize },
	{ "Machines", "disk list", "NAME", 1, 1, false,
		"List the disks that were added to a running machine", NULL, { { 0 } },
		verb_disk_list },
	{ "Machines", "disk add", "NAME FILE", 2, 2, false, "Add a disk to a running machine",
		"It goes with the run; the file stays. For root only, since the hypervisor opens it.",
		{ { "id", 'i', "WORD", "how to call it (default: added0, added1, ...)" },
			{ "format", 'f', "WORD", "raw (default) or qcow2; never guessed" },
			{ "readonly", 'r', NULL, "the guest cannot write to it" },
			{ "serial", 's', "TEXT", "the serial number that the guest sees" } },
		verb_disk_add },
	{ "Machines", "disk remove", "NAME ID", 2, 2, false,
		"Remove a disk that was added to a running machine",
		"Asks the guest, and waits until it has let go of it.", { { 0 } },
		verb_disk_remove },
	{ "Machines", "nic list", "NAME", 1, 1, false, "List the nics of a machine", NULL,
		{ { 0 } }, verb_nic_list },
	{ "Machines", "nic add", "NAME", 1, 1, false, "Add a nic to a running machine",
		"On a network of the configuration, with an address of its own. It goes with the run.",
		{ { "network", 'n', "NAME", "the network (needed)" },
			{ "mac", 'm', "MAC", "its MAC (default: by the machine's name)" } },
		verb_nic_add },
	{ "Machines", "nic remove", "NAME ID", 2, 2, false,
		"Remove a nic that was added to a running machine",
		"Asks the guest, and waits until it has let go of it.", { { 0 } },
		verb_nic_remove },
	{ "Machines", "rm", "NAME...", 1, -1u, false, "Forget removed or stopped machines", NULL,
		{ { "disks", 0, NULL, "delete their disks, too" }, WAITING }, verb_rm },
	{ "Machines", "cancel", "NAME...", 1, -1u, false, "Cancel what is being done to machines",
		"A machine that was being started or restarted is stopped then, and stays so. What\n"
		"stops, pauses, resumes or removes a machine cannot be cancelled.",
		{ { "id", 'i', NULL, "the arguments are numbers of operations" }, WAITING },
		verb_cancel },
	{ "Machines", "clone", "NAME NEW", 2, 2, false, "Make a copy of a machine",
		"NEW has the configuration and copies of the disks of NAME, which must be stopped, or of\n"
		"one of its snapshots; and a name, machine-id, SSH host keys, MAC and address of its\n"
		"own. It is stopped. Its section is written below state_dir, and goes with\n"
		"`drover rm NEW --disks`.",
		{ { "from", 0, "SNAP", "a snapshot of NAME" }, WAITING }, verb_clone },
	{ "Machines", "migrate", "NAME", 1, 1, false, "Move a running machine to another host",
		"The guest goes on running meanwhile, and stands still only for the last moment. The\n"
		"droverd there is reached by a Unix socket or by HTTP; for one on another host forward\n"
		"its socket first: `ssh -L /run/there.sock:/run/drover/api.sock HOST`, then\n"
		"--to unix:/run/there.sock --via tcp:ADDRESS:0 with an address of that host. The memory\n"
		"is not encrypted on its way. Disks must be shared, the same files under the same paths,\n"
		"or are copied with --copy-disks: those in the machine's folder. They stay here, too,\n"
		"until `drover rm NAME --disks`.",
		{ { "to", 0, "URL", "the droverd there: unix:/PATH or http://HOST:PORT" },
			{ "via", 0, "ADDRESS",
				"where the memory is taken there: tcp:ADDRESS:PORT or unix:/PATH" },
			{ "copy-disks", 0, NULL, "the other host does not share its disks" },
			{ "max-bandwidth", 0, "SIZE", "so much a second at most, e.g. 100M" },
			{ "resolve", 0, "WORD",
				"of one in doubt, or whose other side is lost, when you know: keep "
				"(it is here) or give" },
			WAITING },
		verb_migrate },
	{ "Snapshots", "snapshot create", "NAME [SNAP]", 1, 2, false, "Take a snapshot",
		"Of a running or paused machine: its memory, its devices and its disks, as they are at\n"
		"one moment, for which the guest stands still. Without a name it is named after the\n"
		"time. With --disks the guest's agent freezes the filesystems; where there is none\n"
		"that is refused, unless --crash-consistent says that the disks may be as after a\n"
		"power cut.",
		{ { "description", 'd', "TEXT", "what it is for" },
			{ "disks", 0, NULL, "only the disks" },
			{ "crash-consistent", 0, NULL, "with --disks: without freezing" },
			WAITING },
		verb_snapshot_create },
	{ "Snapshots", "snapshot list", "NAME", 1, 1, false, "List a machine's snapshots", NULL,
		{ { 0 } }, verb_snapshot_list },
	{ "Snapshots", "snapshot show", "NAME SNAP", 2, 2, false, "Show a snapshot's manifest",
		NULL, { { 0 } }, verb_snapshot_show },
	{ "Snapshots", "snapshot restore", "NAME SNAP", 2, 2, false,
		"Make a machine what it was in a snapshot",
		"What does not match the machine or this host is said before anything is touched. What\n"
		"the machine has become since is lost.",
		{ WAITING }, verb_snapshot_restore },
	{ "Snapshots", "snapshot delete", "NAME SNAP", 2, 2, false, "Delete a snapshot", NULL,
		{ WAITING }, verb_snapshot_delete },
	{ "Inside a machine", "ssh", "NAME [--] [COMMAND...]", 1, -1u, true,
		"Log in, or run a command",
		"Runs ssh with the machine's key, user and address. Its exit status is ssh's: that of\n"
		"the command, or 255.",
		{ { "wait", 'w', "SECONDS", "wait so long for the machine to answer on port 22" } },
		verb_ssh },
	{ "Inside a machine", "console", "NAME", 1, 1, false, "Connect to the serial console",
		"Begins with what the guest has said since it booted (the last 1 MiB at most), as plain\n"
		"text. Ctrl-] leaves. Several may read; one writes, and whoever comes second is told\n"
		"who that is, reads along, and writes when the first has left.\n"
		"A guest can send a terminal more than text. Passed on are colours and what programs\n"
		"need that draw on the whole screen; left out is what would set the title, the\n"
		"clipboard, the size or the keys of your terminal, print, or ask it for what is on the\n"
		"screen. --raw passes on everything, and so does standard output that is no terminal.\n"
		"When droverd goes, drover tries to come back for a minute, and goes on where it was.\n"
		"At a terminal it waits for the next run of a machine that is started again. When\n"
		"standard input is no terminal, what it has is sent and the output goes on until the\n"
		"run ends, or with --once until standard input ends.",
		{ { "once", 0, NULL, "leave at the end of standard input" },
			{ "share", 's', NULL, "write beside others who share, too" },
			{ "force", 'f', NULL, "take over from who writes" },
			{ "read-only", 'r', NULL, "never write" },
			{ "no-replay", 0, NULL, "only what comes from now on" },
			{ "raw", 0, NULL, "let the guest send the terminal anything" } },
		verb_console },
	{ "Inside a machine", "log", "NAME", 1, 1, false, "Print the console's log", NULL,
		{ { "boot", 'b', "N", "of that boot; -1 is the one before (default: the last)" },
			{ "follow", 'f', NULL, "go on as it is written, until the run ends" } },
		verb_log },
	{ "Inside a machine", "qmp", "NAME [COMMAND...]", 1, -1u, false,
		"Send commands to the monitor, print the replies",
		"A COMMAND is QMP's JSON, or its name (query-status), with JSON arguments behind a\n"
		"blank if it needs any. Without one they are read from standard input, one a line.\n"
		"Exit status 1 if one failed.",
		{ WRITE }, verb_qmp },
	{ "Inside a machine", "hmp", "NAME COMMAND...", 2, -1u, false,
		"Send a command to the human monitor, print the reply",
		"The words are put together: `drover hmp web info block`.", { WRITE }, verb_hmp },
	{ "Inside a machine", "screendump", "NAME FILE", 2, 2, false,
		"Save a picture of the display", "As PNG; - is standard output.", { { 0 } },
		verb_screendump },
	{ "Inside a machine", "dump", "NAME", 1, 1, false,
		"Write the guest's memory to an ELF core", "Prints the path of the file.",
		{ { 0 } }, verb_dump },
	{ "Inside a machine", "stats", "NAME", 1, 1, false, "Print what the hypervisor has counted",
		NULL, { { 0 } }, verb_stats },
	{ "Inside a machine", "ch", "NAME METHOD PATH [JSON]", 3, 4, false,
		"Send a request to cloud-hypervisor's API, print the answer",
		"`drover ch web GET /vm.info`. Anything but a GET needs --write. With -o json the answer\n"
		"as it came, with its status: {\"status\":200,\"return\":...}. Exit status 1 if it failed.",
		{ WRITE }, verb_ch },
	{ "What happened", "why", "NAME", 1, 1, false, "Tell the story of the last run", NULL,
		{ { 0 } }, verb_why },
	{ "What happened", "events", "[NAME]", 0, 1, false, "Print the events",
		"-o json prints one object a line. With --follow and without --since, what comes from\n"
		"now on.",
		{ { "since", 's', "SEQ", "only those after this number; -N: the last N" },
			{ "follow", 'f', NULL, "go on as they happen" } },
		verb_events },
	{ "What happened", "doctor", "", 0, 0, false,
		"Tell what is wrong with the host, and mend it",
		"Checks what machines need of this host: KVM, modules, devices, cgroups, limits, space,\n"
		"programs and their versions, settings of the network, firewalls of others; tells what\n"
		"mends each, and compares the host with what droverd has made of it. Where droverd\n"
		"cannot be reached it looks itself, as far as you may: \"unseen\" is what it could not\n"
		"see. Nothing is changed without --fix, which puts back what is missing of drover's and\n"
		"removes what is ours and no one's, and then asks before each change of the host: it\n"
		"loads modules and turns on nested KVM (never while machines run), by files of its own\n"
		"below /etc, which --undo takes away again. What droverd sets itself, like forwarding,\n"
		"what belongs to others, like their firewalls, and packages it leaves alone.\n"
		"With --root it looks at another tree, such as that of an image, and --fix changes only\n"
		"files there. Exit status 1 if something has failed, differs and was not mended, or if\n"
		"a change failed or, with --yes, was refused.",
		{ { "fix", 0, NULL, "mend what drover can, asking before each change of the host" },
			{ "yes", 'y', NULL, "with --fix and --undo: without asking" },
			{ "undo", 0, NULL, "take back what --fix has changed of the host" },
			{ "strict", 0, NULL, "exit status 1 for warnings, too" },
			{ "root", 0, "DIR", "look at the tree in DIR instead of this host" },
			{ "config", 'c', "FILE",
				"what is needed for this configuration; does not ask droverd" } },
		verb_doctor },
	{ "Configuration", "check", "[FILE]", 0, 1, false, "Check a configuration, without droverd",
		"Runs `droverd -n -c FILE`; the default is droverd's own.", { { 0 } }, verb_check },
	{ "Configuration", "plan", "", 0, 0, false, "Print what a reload would do, and why", NULL,
		{ { 0 } }, verb_plan },
	{ "Configuration", "reload", "", 0, 0, false, "Read the configuration again and apply it",
		"A file with a mistake changes nothing; all its mistakes are printed.", { { 0 } },
		verb_reload },
	{ "Configuration", "config", "", 0, 0, false, "Print the configuration in force", NULL,
		{ { "all", 'a', NULL, "with all defaults" } }, verb_config },
	{ "Images", "pull", "REFERENCE...", 1, -1u, false, "Fetch images into the store",
		"The pull goes on when drover is interrupted.",
		{ { "policy", 0, "WORD", "missing (default), always or never" } }, verb_pull },
	{ "Images", "image list", "", 0, 0, false, "List the images in the store", NULL, { { 0 } },
		verb_image_list },
	{ "Images", "image rm", "REFERENCE...", 1, -1u, false, "Remove images from the store", NULL,
		{ { 0 } }, verb_image_rm },
	{ "Images", "image inspect", "REFERENCE...", 1, -1u, false,
		"Tell what an image holds and how it would boot",
		"An image that is not in the store is pulled first.", { { 0 } },
		verb_image_inspect },
	{ "Images", "image import", "FILE", 1, 1, false,
		"Take an image out of a file into the store",
		"An archive or folder of the OCI layout, what `docker save` writes, or a disk (by its\n"
		"ending .qcow2, .vmdk, .vhdx, .raw). Machines that name the image then start without\n"
		"a registry. Only root, or who runs the daemon, may name files.",
		{ { "name", 0, "REFERENCE", "what it is called; else what the file says" } },
		verb_image_import },
	{ "Images", "image export", "REFERENCE", 1, 1, false,
		"Write an image of the store into a file",
		"An archive of the OCI layout (oci-archive), which skopeo and podman take, too.",
		{ { "to", 0, "FILE", "is replaced if it is there" } }, verb_image_export },
	{ "Images", "image outdated", "", 0, 0, false,
		"List the images whose tag names something else by now",
		"Nothing is pulled: `drover pull --policy always` does that.", { { 0 } },
		verb_image_outdated },
	{ "Images", "image prune", "", 0, 0, false, "Remove from the store what no image needs",
		"Where image_budget or image_age are set, images that no machine needs and that are\n"
		"beyond them go, too. droverd does the same after each pull and every hour.",
		{ { 0 } }, verb_image_prune },
	{ "Images", "image verify", "", 0, 0, false, "Read every blob in the store",
		"Those that are damaged are removed: the next pull fetches them again. The exit\n"
		"status is 1 then.",
		{ { 0 } }, verb_image_verify },
	{ "Images", "registry list", "", 0, 0, false, "List the registry caches",
		"HITS is how many of the blobs that a cache was asked for it gave without fetching\n"
		"them, since it was first started: \"75% of 12\". -o json has the numbers, also in\n"
		"bytes, and when the count began. Manifests do not count: the upstream is asked where\n"
		"a tag points each time. What is prefetched counts as any pull.",
		{ { 0 } }, verb_registry_list },
	{ "Networks", "net list", "", 0, 0, false, "List the networks", NULL, { { 0 } },
		verb_net_list },
	{ "Networks", "net show", "NAME", 1, 1, false, "Show a network, and who is on it", NULL,
		{ { 0 } }, verb_net_show },
	{ "Networks", "net leases", "[NAME]", 0, 1, false,
		"List the addresses that guests have asked for", NULL, { { 0 } }, verb_net_leases },
	{ "Networks", "net check", "[NAME]", 0, 1, false,
		"Tell which networks are not as configured, and why",
		"Exit status 1 if any is not.", { { 0 } }, verb_net_check },
	{ "Networks", "ca show", "", 0, 0, false,
		"Print the certificate of the CA that mirrors are signed by",
		"For guests, which trust in it to use the mirrors of their network; they can get it\n"
		"from there, too: http://MIRROR/drover-ca.pem.",
		{ { 0 } }, verb_ca_show },
	{ "Networks", "net graph", "", 0, 0, false, "Draw who is connected to what",
		"As text, or with an option as a picture; dashes and dots are machines that do not run.",
		{ { "dot", 0, NULL, "for graphviz: drover net graph --dot | dot -Tpng" },
			{ "svg", 0, NULL, "as an SVG, which needs no other program" } },
		verb_net_graph },
	{ "Other", "version", "", 0, 0, false, "Print the versions of drover and droverd", NULL,
		{ { 0 } }, verb_version },
	{ "Other", "help", "[VERB]", 0, 2, false, "Explain drover, or one verb", NULL,
		{ { "completion", 0, NULL, "print the completion for bash" },
			{ "man", 0, NULL, "print the manual page" } },
		verb_help },
};
const size_t nverbs = ARRAY_LEN(verbs);
