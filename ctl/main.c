/* drover - the command line of droverd. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include "ctl/api.h"
#include "ctl/ctl.h"
#include "ctl/help.h"
#include "ctl/term.h"

int main(int argc, char **argv)
{
	struct ctl c = { 0 };
	int ret;

	term_init();
	ret = ctl_parse(&c, argc, argv);
	if (ret < 0) {
		help_print(c.verb, c.group);
		ret = CTL_OK;
	} else if (ret == CTL_OK) {
		ret = c.verb->run(&c);
	}
	api_close(&c);
	strv_finish(&c.args);
	term_restore();
	if ((fflush(stdout) != 0 || ferror(stdout)) && ret == CTL_OK)
		ret = ctl_fail("standard output: %s", strerror(errno));
	return ret;
}
