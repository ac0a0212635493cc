#pragma once
#include <png.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <turbojpeg.h>
#include <zlib.h>

// libpng's simplified API works on a struct that its macros fill; these functions are the macros as Swift can call them.
// `channels` is 3 (RGB) or 4 (RGBA), one byte each, rows without padding.

static inline png_uint_32 cpng_format(int channels) { return channels == 4 ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB; }

// An upper bound for the size of the file that cpng_write makes.
static inline size_t cpng_capacity(uint32_t width, uint32_t height, int channels) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = cpng_format(channels);
  return PNG_IMAGE_PNG_SIZE_MAX(image);
}

// Returns the number of bytes written to `file`, 0 when libpng refuses.
static inline size_t cpng_write(const uint8_t *pixels, uint32_t width, uint32_t height, int channels, uint8_t *file, size_t capacity) {
  png_image image;
  png_alloc_size_t size = capacity;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = height;
  image.format = cpng_format(channels);
  image.flags = PNG_IMAGE_FLAG_FAST;
  int written = png_image_write_to_memory(&image, file, &size, 0, pixels, 0, NULL);
  png_image_free(&image);
  return written ? size : 0;
}

// Reads the header only. Returns 0 when the bytes are no PNG.
static inline int cpng_header(const uint8_t *file, size_t size, uint32_t *width, uint32_t *height, int *channels) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, file, size)) return 0;
  *width = image.width;
  *height = image.height;
  *channels = (image.format & PNG_FORMAT_FLAG_ALPHA) ? 4 : 3;
  png_image_free(&image);
  return 1;
}

// Decodes into `pixels`, which holds width * height * channels bytes. Returns 0 when the file is damaged.
static inline int cpng_read(const uint8_t *file, size_t size, int channels, uint8_t *pixels) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, file, size)) return 0;
  image.format = cpng_format(channels);
  int read = png_image_finish_read(&image, NULL, pixels, 0, NULL);
  png_image_free(&image);
  return read;
}
