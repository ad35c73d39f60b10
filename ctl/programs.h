/* ctl/programs.h - the other programs that drover runs in its place. */
#ifndef DROVER_CTL_PROGRAMS_H
#define DROVER_CTL_PROGRAMS_H

/*
 * Beside drover's own executable, in ../sbin of that, or by PATH: what belongs together is used
 * together. NULL if there is none; malloc'd.
 */
char *find_droverd(void);

#endif
