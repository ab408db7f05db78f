/* SPDX-License-Identifier: ISC */
/*
 * Users and groups of the configuration: names to ids.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_conf_user.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parent_caps.h"
#include "parent_conf_value.h"

#define DEFAULT_USER "nsproxy"

/* The last id means "no change" to the kernel. */
static bool
is_id(const char *text, uint32_t *id)
{
	uint64_t number;
	const char *why;

	if (value_number(text, 0, UINT32_MAX - 1, &number, &why) == -1)
		return false;
	*id = (uint32_t)number;
	return true;
}

/* With *has_group false where only a number is known. */
static bool
find_user(const char *name, uid_t *uid, gid_t *gid, bool *has_group)
{
	const struct passwd *pw = getpwnam(name);

	if (pw == NULL && !is_id(name, uid))
		return false;
	if (pw == NULL)
		pw = getpwuid(*uid);
	*has_group = pw != NULL;
	if (pw != NULL) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
	}
	return true;
}

static bool
find_group(const char *name, gid_t *gid)
{
	const struct group *gr = getgrnam(name);

	if (gr == NULL)
		return is_id(name, gid);
	*gid = gr->gr_gid;
	return true;
}

/* USER[:GROUP]; 0, or -1 after an error. */
static int
find_owner(struct conf_draft *draft, const struct draft_value *value, const char *advice, uid_t *uid, gid_t *gid)
{
	char *user = draft_copy(value->text), *group = strchr(user, ':');
	bool has_group;
	int result = -1;

	if (group != NULL)
		*group++ = '\0';
	if (!find_user(user, uid, gid, &has_group))
		draft_error(draft, &value->where, EXIT_MACHINE, "user '%s' does not exist%s", user, advice);
	else if (group == NULL && !has_group)
		draft_error(draft, &value->where, EXIT_MACHINE, "user '%s' has no primary group; write USER:GROUP", user);
	else if (group != NULL && !find_group(group, gid))
		draft_error(draft, &value->where, EXIT_MACHINE, "group '%s' does not exist", group);
	else
		result = 0;
	free(user);
	return result;
}

/* Until something better is known: an unprivileged id, so that no later stage works as root by accident. */
#define NOBODY 65534

static void
resolve_user(struct conf_draft *draft)
{
	struct conf *conf = &draft->conf;
	struct conf_where nowhere = { conf->file, 0, "user" };

	conf->one_id = caps_one_id();
	conf->uid = conf->one_id ? geteuid() : NOBODY;
	conf->gid = conf->one_id ? getegid() : NOBODY;
	/* After another error the user may have been in a part that was not understood. */
	if (draft->user.text == NULL && (conf->one_id || draft->first != EXIT_OK))
		return;
	if (draft->user.text == NULL) {
		nowhere.file = conf->file != NULL ? draft_file(draft, conf->file) : NULL;
		draft_value_set(&draft->user, DEFAULT_USER, &nowhere);
	}
	conf->user = draft_copy(draft->user.text);
	if (find_owner(draft, &draft->user, "; create it with: useradd --system --shell /usr/sbin/nologin USER, or name another with -u",
	    &conf->uid, &conf->gid) == -1)
		return;
	if (conf->one_id && (conf->uid != geteuid() || conf->gid != getegid()))
		draft_error(draft, &draft->user.where, EXIT_MACHINE,
		    "'%s': this user namespace maps a single id, nobody else can be become here; leave the user out", conf->user);
	else if (!conf->one_id && conf->uid == 0)
		draft_error(draft, &draft->user.where, EXIT_CMDLINE, "'%s': workers and reporter must not run as root", conf->user);
}

static void
resolve_unix_owner(struct conf_draft *draft, struct draft_service *service)
{
	service->out.unix_uid = draft->conf.one_id ? geteuid() : 0;
	service->out.unix_gid = draft->conf.one_id ? getegid() : 0;
	if (service->unix_owner.text == NULL)
		return;
	service->out.unix_owner = draft_copy(service->unix_owner.text);
	(void)find_owner(draft, &service->unix_owner, "", &service->out.unix_uid, &service->out.unix_gid);
}

void
conf_user_resolve(struct conf_draft *draft)
{
	gid_t gid;
	size_t i;

	resolve_user(draft);
	for (i = 0; i < draft->n_services; i++)
		resolve_unix_owner(draft, &draft->services[i]);
	draft->conf.control_gid = draft->conf.gid;
	if (draft->control_group.text == NULL)
		return;
	draft->conf.control_group = draft_copy(draft->control_group.text);
	if (find_group(draft->control_group.text, &gid))
		draft->conf.control_gid = gid;
	else
		draft_error(draft, &draft->control_group.where, EXIT_MACHINE, "group '%s' does not exist", draft->control_group.text);
}
