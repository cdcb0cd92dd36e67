/* Reading rotary positions from config.json. */
#ifndef MODEL_CONFIG_ROPE_H
#define MODEL_CONFIG_ROPE_H

#include "format/json.h"
#include "model/config.h"
#include "model/families.h"

/* Fill rope, and local_rope where the family has two; sizes and positions are there. */
balora_status config_rope_read(model_config *config, const family_description *family, const json_t *root,
                               const char *origin);

/* FORMAT, naming origin and key, unless the value is a finite number above 0. */
balora_status config_positive(const char *origin, const char *key, double value);

#endif
