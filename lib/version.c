#include "balora/version.h"

#define TEXT_OF(value)                    #value
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *balora_version(void) {
    return VERSION_TEXT(BALORA_VERSION_MAJOR, BALORA_VERSION_MINOR, BALORA_VERSION_PATCH);
}

int32_t balora_abi_version(void) {
    return BALORA_ABI_VERSION;
}
