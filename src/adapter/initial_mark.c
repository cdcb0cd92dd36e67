#include "adapter/initial_mark.h"

#include <string.h>

/* The value: names of modules with commas between them, or "all". */
static const char mark_key[] = "balora.initial_factors";
static const char mark_all[] = "all";

static bool is_doubled(const adapter_module *module) {
    return module->has_initial || module->ends_with_initial;
}

static json_t *list_doubled(const balora_adapter *adapter, int64_t count) {
    if (count == adapter->module_count)
        return json_string(mark_all);
    json_t *names = json_string("");
    for (int64_t i = 0; i < adapter->module_count && names != NULL; i++) {
        if (!is_doubled(&adapter->modules[i]))
            continue;
        const char *so_far = json_string_value(names);
        json_t *longer =
            json_sprintf("%s%s%s", so_far, so_far[0] != '\0' ? "," : "", adapter->modules[i].name);
        json_decref(names);
        names = longer;
    }
    return names;
}

json_t *initial_mark_metadata(const balora_adapter *adapter) {
    int64_t count = 0;
    for (int64_t i = 0; i < adapter->module_count; i++)
        count += is_doubled(&adapter->modules[i]);
    if (count == 0)
        return json_pack("{s:s}", "format", "pt");
    return json_pack("{s:s, s:o}", "format", "pt", mark_key, list_doubled(adapter, count));
}

static bool list_holds(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *entry = list; *entry != '\0';) {
        size_t size = strcspn(entry, ",");
        if (size == length && memcmp(entry, name, length) == 0)
            return true;
        entry += size + (entry[size] == ',');
    }
    return false;
}

static void mark_modules(balora_adapter *adapter, const char *list) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        adapter_module *module = &adapter->modules[i];
        bool named = strcmp(list, mark_all) == 0 || list_holds(list, module->name);
        module->ends_with_initial = module->ends_with_initial || (named && module->rank % 2 == 0);
    }
}

void initial_mark_read(balora_adapter *adapter, const tensor_files *files) {
    for (int64_t i = 0; i < files->shard_count; i++) {
        const char *list = json_string_value(json_object_get(files->shards[i].metadata, mark_key));
        if (list != NULL)
            mark_modules(adapter, list);
    }
}
