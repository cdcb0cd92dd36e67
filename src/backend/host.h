/* What the library lends to a plugin: see plugin.h. */
#ifndef BACKEND_HOST_H
#define BACKEND_HOST_H

#include "backend/plugin.h"

const backend_host *backend_host_services(void); /* constant */

#endif
