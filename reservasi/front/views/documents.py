"""Documents of a person: the booking code as a QR code, and the appointment as a calendar file."""

import io
from datetime import UTC, date, datetime

import segno
from icalendar import Calendar, Event

from reservasi.front.api.languages import Language, Text
from reservasi.model import Quota
from reservasi.programs import Program
from reservasi.programs.openings import instant

QR_SCALE = 6
QR_BORDER_MODULES = 4  # required by ISO/IEC 18004


def qr_svg(booking_code: str) -> bytes:
    """The booking code as an SVG image."""
    image = io.BytesIO()
    segno.make(booking_code, error="m", micro=False).save(
        image, kind="svg", scale=QR_SCALE, border=QR_BORDER_MODULES, title=booking_code
    )
    return image.getvalue()


def ticket_ics(reservation_id: str, booking_code: str, quota: Quota, program: Program, language: Language) -> bytes:
    """The appointment as iCalendar (RFC 5545); times in UTC, so that no time zone table is needed."""
    office, service = program.office(quota.terms.office), program.service(quota.terms.service)
    office_name = Text(office.name.id, office.name.en).to(language) if office else quota.terms.office
    service_name = Text(service.name.id, service.name.en).to(language) if service else quota.terms.service
    day = date.fromisoformat(quota.terms.date)
    starts_at = instant(day, quota.terms.start, program.zone).astimezone(UTC)
    ends_at = instant(day, quota.terms.end, program.zone).astimezone(UTC)
    event = Event()
    event.add("uid", f"{reservation_id}@reservasi")
    event.add("dtstamp", datetime.now(UTC))
    event.add("dtstart", starts_at)
    event.add("dtend", ends_at)
    event.add("summary", f"{service_name}, {office_name}")
    event.add("location", office.address if office else office_name)
    event.add("description", Text("Kode pemesanan", "Booking code").to(language) + f": {booking_code}")
    event.add("status", "CONFIRMED")
    calendar = Calendar()
    calendar.add("prodid", "-//reservasi//reservasi//ID")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add_component(event)
    encoded: bytes = calendar.to_ical()
    return encoded
