/* The route of `drover doctor`: supervisor/routes.h. */
#include <stdlib.h>

#include "supervisor/doctor.h"
#include "supervisor/routes-private.h"

struct asked {
	struct request *rq; /* NULL: its client has gone */
};

static void client_gone(void *arg)
{
	struct asked *asked = arg;

	asked->rq = NULL;
}

static void examined(void *arg, json_t *report, const struct err *err)
{
	struct asked *asked = arg;

	if (asked->rq != NULL) {
		request_on_gone(asked->rq, NULL, NULL);
		if (err != NULL)
			reply_err(asked->rq, err, NULL, NULL);
		else
			reply_json(asked->rq, 200, json_incref(report));
	}
	free(asked);
}

static void examine(struct drover *d, struct request *rq, bool fix)
{
	struct asked *asked = calloc(1, sizeof(*asked));
	struct err err;
	int r = asked == NULL ? err_nomem(&err) : doctor_run(d, fix, examined, asked, &err);

	if (r < 0) {
		free(asked);
		reply_err(rq, &err, NULL, NULL);
		return;
	}
	asked->rq = rq;
	request_on_gone(rq, client_gone, asked);
}

void route_doctor(void *arg, struct request *rq)
{
	examine(arg, rq, false);
}

void route_doctor_fix(void *arg, struct request *rq)
{
	bool fix;

	if (route_flag(rq, "fix", &fix))
		examine(arg, rq, fix);
}
