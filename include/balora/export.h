/* Visibility and linkage of the public symbols. */
#ifndef BALORA_EXPORT_H
#define BALORA_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define BALORA_API __attribute__((visibility("default")))
#else
#define BALORA_API
#endif

#ifdef __cplusplus
#define BALORA_BEGIN_DECLS extern "C" {
#define BALORA_END_DECLS   }
#else
#define BALORA_BEGIN_DECLS
#define BALORA_END_DECLS
#endif

#endif
