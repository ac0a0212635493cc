#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define IS_BIG_ENDIAN 1
#else
#define IS_BIG_ENDIAN 0
#endif

/// ICU's package of locale data ("ToCP" in its udata.h), with nothing in it.
struct empty_package {
  uint16_t header_size;
  uint8_t magic[2];
  struct {
    uint16_t size, reserved;
    uint8_t is_big_endian, charset_family, size_of_unit, reserved_too;
    uint8_t format[4], format_version[4], data_version[4];
  } information;
  uint8_t padding[8];
  uint32_t count;
};

/// Takes the place of 34 MB in a static build, where the linker takes a member of an archive only for symbols that nothing has defined yet:
/// names of months and rules of collation, in all languages, for the part of Foundation that nothing here calls. A program without them is
/// foreseen by ICU, which then says U_MISSING_RESOURCE_ERROR. A toolchain with another version of ICU links its own data as ever.
///
/// Hidden, so that it is not seen by a Foundation in a shared library, as in debug builds and tests.
__attribute__((visibility("hidden"))) const struct empty_package icudt76_dat = {
    .header_size = offsetof(struct empty_package, count),
    .magic = {0xDA, 0x27},
    .information = {
        .size = sizeof icudt76_dat.information,
        .is_big_endian = IS_BIG_ENDIAN,
        .size_of_unit = 2,
        .format = {'T', 'o', 'C', 'P'},
        .format_version = {1},
    },
};
