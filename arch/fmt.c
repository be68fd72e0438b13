// See fmt.h. Output goes byte by byte into a bounded buffer; the position keeps
// counting past the end, so that the caller learns the length it would need.

#include "arch/fmt.h"

#include "arch/arch.h"

struct sink {
    char *buf;
    size_t size, at;
};

static void put(struct sink *s, char c)
{
    if (s->at + 1 < s->size)
        s->buf[s->at] = c;
    s->at++;
}

struct spec {
    bool left, zero;
    unsigned width;
    int precision; // -1: none
};

static void put_padded(struct sink *s, const struct spec *f, const char *p,
                       size_t n)
{
    size_t pad = f->width > n ? f->width - n : 0;

    for (size_t i = 0; !f->left && i < pad; i++)
        put(s, f->zero ? '0' : ' ');
    for (size_t i = 0; i < n; i++)
        put(s, p[i]);
    for (size_t i = 0; f->left && i < pad; i++)
        put(s, ' ');
}

static void put_number(struct sink *s, struct spec *f, uint64_t v, bool minus,
                       unsigned base)
{
    char digits[24];
    size_t at = sizeof digits;

    do {
        digits[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v != 0);
    if (minus && f->zero) {
        put(s, '-');
        f->width -= f->width > 0;
    } else if (minus) {
        digits[--at] = '-';
    }
    put_padded(s, f, digits + at, sizeof digits - at);
}

static const char *read_spec(const char *p, struct spec *f, va_list *ap)
{
    *f = (struct spec){.precision = -1};
    for (; *p == '-' || *p == '0'; p++) {
        if (*p == '-')
            f->left = true;
        else
            f->zero = true;
    }
    if (*p == '*') {
        f->width = va_arg(*ap, unsigned);
        p++;
    }
    for (; *p >= '0' && *p <= '9'; p++)
        f->width = f->width * 10 + (unsigned)(*p - '0');
    if (*p == '.') {
        p++;
        f->precision = 0;
        if (*p == '*') {
            f->precision = va_arg(*ap, int);
            p++;
        }
        for (; *p >= '0' && *p <= '9'; p++)
            f->precision = f->precision * 10 + (*p - '0');
    }
    return p;
}

static void put_string(struct sink *s, const struct spec *f, const char *p)
{
    size_t n = 0;

    if (p == NULL)
        p = "(null)";
    while ((f->precision < 0 || n < (size_t)f->precision) && p[n] != '\0')
        n++;
    put_padded(s, f, p, n);
}

static const char *put_conversion(struct sink *s, const char *p, va_list *ap)
{
    const char *start = p;
    struct spec f;
    bool wide = false;

    p = read_spec(p, &f, ap);
    for (; *p == 'l' || *p == 'z'; p++)
        wide = true;
    switch (*p) {
    case 'd': {
        int64_t v = wide ? va_arg(*ap, int64_t) : va_arg(*ap, int);

        put_number(s, &f, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, v < 0, 10);
        break;
    }
    case 'u':
    case 'x': {
        uint64_t v = wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);

        put_number(s, &f, v, false, *p == 'x' ? 16 : 10);
        break;
    }
    case 'p':
        put(s, '0');
        put(s, 'x');
        put_number(s, &f, (uintptr_t)va_arg(*ap, void *), false, 16);
        break;
    case 'c':
        put(s, (char)va_arg(*ap, int));
        break;
    case 's':
        put_string(s, &f, va_arg(*ap, const char *));
        break;
    case '%':
        put(s, '%');
        break;
    default:
        put(s, '%');
        return start;
    }
    return p + 1;
}

size_t fmt_vstring(char *buf, size_t size, const char *fmt, va_list ap0)
{
    struct sink s = {buf, size, 0};
    va_list ap;

    va_copy(ap, ap0);
    while (*fmt != '\0') {
        if (*fmt != '%')
            put(&s, *fmt++);
        else
            fmt = put_conversion(&s, fmt + 1, &ap);
    }
    va_end(ap);
    if (size > 0)
        buf[s.at < size ? s.at : size - 1] = '\0';
    return s.at;
}

size_t fmt_string(char *buf, size_t size, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    size_t n = fmt_vstring(buf, size, fmt, ap);
    va_end(ap);
    return n;
}

void fmt_verr(const char *fmt, va_list ap)
{
    char line[512];
    size_t n = fmt_vstring(line, sizeof line, fmt, ap);

    arch_console_write(ARCH_STDERR, line,
                       n < sizeof line ? n : sizeof line - 1);
}

void fmt_err(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fmt_verr(fmt, ap);
    va_end(ap);
}
