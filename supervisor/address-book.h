/*
 * supervisor/address-book.h - which address on a network with a bridge is whose: those that machines keep,
 * running or not, and those that the configuration has given away. Found in constant time, and made anew
 * when the configuration changes. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_ADDRESS_BOOK_H
#define DROVER_SUPERVISOR_ADDRESS_BOOK_H

#include "supervisor/drover.h"
#include "supervisor/machine.h"

struct address_book;

/* Whether another nic has the address; -ENOMEM: it cannot be told. */
int address_is_taken(struct drover *d, const struct nic *nic, uint32_t address);
/* The nic has it from now on. */
int address_take(struct drover *d, const struct nic *nic, uint32_t address);
/* What was given back since is free, at the next question. */
void address_book_drop(struct drover *d);

#endif
