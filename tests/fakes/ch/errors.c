/*
 * Answers. The texts are those of the real program, outermost first (vmm/src/api/mod.rs, ApiError;
 * vmm/src/vm.rs, Error); tests/data/cloud-hypervisor has them as it said them.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/ch/fake.h"

void answer_json(int status, json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	http_answer(status, text, true);
	free(text);
}

void answer_empty(int status)
{
	http_answer(status, NULL, false);
}

static json_t *chain_of(const char *first, va_list ap)
{
	json_t *chain = json_array();

	for (const char *s = first; s != NULL; s = va_arg(ap, const char *))
		json_array_append_new(chain, json_string(s));
	return chain;
}

void answer_chain(int status, const char *first, ...)
{
	json_t *chain;
	va_list ap;

	va_start(ap, first);
	chain = chain_of(first, ap);
	va_end(ap);
	answer_json(status, chain);
}

static bool begins(const char *text, const char *with)
{
	return text != NULL && strncmp(text, with, strlen(with)) == 0;
}

/*
 * vmm/src/api/http/mod.rs, api_error_status_code(): by the second error of the chain. v53 knows one
 * of them; what follows it knows more, all else is a 500.
 */
static int status_of(const json_t *chain)
{
	const char *cause = json_string_value(json_array_get(chain, 2));
	const char *detail = json_string_value(json_array_get(chain, 3));

	if (begins(cause, "VM is not created") || begins(cause, "VM config is missing"))
		return 404;
	if (fake_major() < 54)
		return 500;
	if (begins(cause, "No device with id") || begins(detail, "Failed to find device"))
		return 404;
	if (begins(cause, "Failed to validate config"))
		return begins(detail, "Identifier ") ? 409 : 400;
	return 500;
}

void answer_error(const char *first, ...)
{
	json_t *chain;
	va_list ap;

	va_start(ap, first);
	chain = chain_of(first, ap);
	va_end(ap);
	json_array_insert_new(chain, 0, json_string("Error from API"));
	answer_json(status_of(chain), chain);
}
